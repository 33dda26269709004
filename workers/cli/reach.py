"""The client of the fleet a subcommand is for."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from sessionfleet import Fleet, FleetError
from workers.cli import Refused
from workers.cli.running import connect, environment
from workers.settings import SettingsError

NAMES_A_FLEET = ("FLEET_REDIS_URL", "FLEET_BROKER_URL", "FLEET_REDIS_HOST", "REDIS_URL", "REDIS_HOST")


@contextmanager
def reached() -> Iterator[Fleet]:
    """A client of the fleet that the environment names, else of the one that runs in this home.

    A typed error inside the block is printed as JSON on stderr and ends the command with 1; that
    there is no fleet, or that its settings do not fit, is one sentence and 2.
    """
    if not any(map(os.environ.get, NAMES_A_FLEET)) and not environment():
        raise Refused("no fleet runs here: start it with ./fleet up, or name one in FLEET_REDIS_URL.")
    try:
        with connect() as fleet:
            yield fleet
    except SettingsError:
        raise
    except FleetError as error:
        click.echo(json.dumps(error.shape(), indent=2, ensure_ascii=False), err=True)
        sys.exit(1)
