"""The client of the fleet a subcommand is for."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from sessionfleet import Fleet, FleetError
from workers.cli import Refused
from workers.cli.answers import document
from workers.cli.running import connect, environment
from workers.settings import SettingsError

NAMES_A_FLEET = ("FLEET_REDIS_URL", "FLEET_BROKER_URL", "FLEET_REDIS_HOST", "REDIS_URL", "REDIS_HOST")


@contextmanager
def reached(typed: Mapping[str, str] | None = None) -> Iterator[Fleet]:
    """A client of the fleet that the environment names, else of the one that runs in this home.

    A typed error inside the block is printed as JSON on stderr and ends the command with 1; that
    there is no fleet, or that its settings do not fit, is one sentence and 2. The message of an error about a
    field names what a person types for it: ``typed`` by wire name, or else the option or argument of the command
    whose parameter is called like the field, or whose value is an object with it. Details keep the wire name.
    """
    if not any(map(os.environ.get, NAMES_A_FLEET)) and not environment():
        raise Refused("no fleet runs here: start it with ./fleet up, or name one in FLEET_REDIS_URL.")
    try:
        with connect() as fleet:
            yield fleet
    except SettingsError:
        raise
    except FleetError as error:
        shape = _in_words_of(_typed() if typed is None else typed, error.shape())
        click.echo(document(shape), err=True)
        sys.exit(1)


def _typed() -> dict[str, str]:
    """Field -> what a person types for it, in the command that runs."""
    context = click.get_current_context()
    found: dict[str, str] = {}
    objects: dict[str, str] = {}
    for one in context.command.params:
        name = one.name or ""
        found[name] = one.opts[0] if isinstance(one, click.Option) else one.human_readable_name
        if isinstance(value := context.params.get(name), dict):
            objects |= {key: f"{found[name]} {key}" for key in value if context.params.get(key) is None}
    return found | objects


def _in_words_of(typed: Mapping[str, str], shape: dict[str, Any]) -> dict[str, Any]:
    details = shape["details"]
    field = details["fields"][0]["field"] if details.get("fields") else str(details.get("field", ""))
    name, _, rest = field.partition(".")
    if name not in typed or not shape["message"].startswith(f"{field}: "):
        return shape
    return {**shape, "message": " ".join(filter(None, (typed[name], rest))) + shape["message"].removeprefix(field)}
