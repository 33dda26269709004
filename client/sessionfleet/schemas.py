"""JSON Schemas of all messages, for callers in other languages (R-11)."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sessionfleet.messages import CATALOGUE, message_type


def schema_of(name: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of an operation's keyword arguments, with its queue and kind as
    ``x-queue`` and ``x-kind``; :class:`UnknownOperation` for an unknown name.

    What a schema cannot say - rules over several fields, text PostgreSQL cannot store - is checked
    by the worker all the same.
    """
    kind = message_type(name)
    schema = kind.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": name,
        "x-queue": kind.queue,
        "x-kind": kind.kind,
    }


def schemas() -> dict[str, dict[str, Any]]:
    """Every operation's schema by wire name."""
    return {name: schema_of(name) for name in sorted(CATALOGUE)}


def fingerprint() -> str:
    """SHA-256 (hex) over what all schemas demand: equal in client and fleet when they speak the same contract.

    Titles and descriptions do not count, nor how a release of pydantic happens to spell a schema.
    """
    text = json.dumps(_demands(schemas(), names=True), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _demands(value: Any, *, names: bool = False) -> Any:
    """``names``: the keys are names of ours, not words of JSON Schema."""
    if isinstance(value, dict):
        return {
            key: _demands(one, names=key in ("properties", "$defs") and not names)
            for key, one in value.items()
            if names or not (key in ("title", "description") or (key == "additionalProperties" and one is True))
        }
    if isinstance(value, list):
        return [_demands(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
