"""Messages and their bodies are JSON first and Python second.

kombu writes values that JSON does not know, such as datetimes, as ``{"__type__": ..., "__value__": ...}`` and
reads every object with exactly these two keys back. A caller's own object of that shape made the whole body
unreadable: dropped by the worker, never answered. Here it stays what it is unless kombu can read it.
"""

from __future__ import annotations

from typing import Any

from kombu.serialization import register
from kombu.utils import json
from pydantic_core import from_json

_MARK = b"__type__"
"""In each value that kombu reads as a Python object."""


def plain(text: bytes) -> Any:
    """What is JSON and nothing more, in a third of the time kombu takes for it; raises ValueError for all else, such
    as lone surrogates, which kombu may still be able to read."""
    if _MARK in text:
        raise ValueError("may hold Python values")
    return from_json(text)


def as_written(found: dict[str, Any]) -> Any:
    """The Python value kombu wrote, or ``found`` itself."""
    try:
        return json.object_hook(found)
    except Exception:  # noqa: BLE001 - whatever a decoder makes of a stranger's value
        return found


def loads(text: str | bytes) -> Any:
    """A message body; raises ValueError for what is no JSON."""
    return json.loads(text, object_hook=as_written)


def install() -> None:
    """Read all JSON bodies of this process this way; what is written stays as kombu writes it."""
    register("json", json.dumps, loads, content_type="application/json", content_encoding="utf-8")
