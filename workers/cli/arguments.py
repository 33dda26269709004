"""Arguments as a person types them: ``key=value`` and one JSON object of an operation, lengths of time, ids."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from sessionfleet.messages import CATALOGUE
from sessionfleet.schemas import schema_of

SIMPLE = ("integer", "number", "boolean")


class Length(click.ParamType[Any]):
    """A length of time in ``unit``, ``least`` or more; neither infinite nor not a number, which floats may be."""

    def __init__(self, unit: str, least: float) -> None:
        self.name = unit
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            length = float(value)
        except ValueError:
            length = math.nan
        if not self._least <= length < math.inf:
            self.fail(f"{value!r} is no number of {self.name}, {self._least:g} or more", param, ctx)
        return length


class Seconds(Length):
    """Seconds, 0 or more."""

    def __init__(self) -> None:
        super().__init__("seconds", 0)


these = click.argument("ids", nargs=-1, required=True, type=click.IntRange(1))
"""The numbers of dead letters."""


class UsageError(Exception):
    """What was typed cannot be understood; the text says what to type instead. Exit code 2."""


def parse(name: str, pairs: Iterable[str], text: str | None = None) -> dict[str, Any]:
    """The keyword arguments of operation ``name``.

    A value is text where the message takes text and JSON everywhere else. ``key=@file`` takes the
    value from a file (``@-``: standard input), ``key=@@...`` is text that begins with ``@``.
    ``text`` is a JSON object, or ``@file``; a ``key=value`` wins over it. Whether the values fit
    the message is not checked here, nor whether there is such an operation.
    """
    arguments = _object(text) if text else {}
    properties = schema_of(name)["properties"] if name in CATALOGUE else {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"{pair!r} is no key=value")
        arguments[key] = _value(key, _text(value), properties.get(key))
    return arguments


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(_text(text))
    except ValueError as error:
        raise UsageError(f"--json: not JSON: {error}") from None
    if not isinstance(found, dict):
        raise UsageError("--json: must be a JSON object")
    return found


def _text(value: str) -> str:
    if value.startswith("@@"):
        return value[1:]
    if not value.startswith("@"):
        return value
    try:
        return sys.stdin.read() if value == "@-" else Path(value[1:]).read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{value[1:]}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{value[1:]}: is not UTF-8 text") from None


def _value(key: str, text: str, schema: dict[str, Any] | None) -> Any:
    """As the message's field says; a field nobody knows is JSON if it can be."""
    kinds = _kinds(schema) if schema is not None else set()
    if "string" in kinds and not ("array" in kinds and text.startswith("[")):
        return text
    try:
        return json.loads(text)
    except ValueError:
        if schema is None or kinds & set(SIMPLE):
            return text  # the message says what it wants instead
        example = '{"a": 1}' if "object" in kinds else '["a", "b"]'
        raise UsageError(f"{key}: not JSON; quote it like '{key}={example}'") from None


def _kinds(schema: dict[str, Any]) -> set[str]:
    found = {str(schema["type"])} if "type" in schema else set()
    return found.union(*map(_kinds, schema.get("anyOf", ())))
