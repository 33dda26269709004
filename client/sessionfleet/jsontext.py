"""JSON text in a fraction of the json module's time: orjson writes where it is installed, pydantic's parser reads.

Exact in any case: what orjson cannot hold, such as integers beyond 64 bits, the standard library writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic_core import from_json


def _fast() -> Any:
    try:
        import orjson
    except ImportError:  # a client without the extra `fast`
        return None
    return orjson


_orjson = _fast()
_ONLY_JSON = _orjson and _orjson.OPT_SORT_KEYS | _orjson.OPT_PASSTHROUGH_DATETIME | _orjson.OPT_PASSTHROUGH_DATACLASS


class Encoded:
    """A value that is JSON text already: it is written as it is, in any place, as often as it is sent somewhere."""

    __slots__ = ("text",)

    def __init__(self, value: Any) -> None:
        self.text = encode(value)

    def __repr__(self) -> str:
        return self.text.decode()

    def with_fields(self, more: Mapping[str, Any]) -> Encoded:
        """An object with more fields behind those it has; neither may be empty, and nothing is encoded twice."""
        made = Encoded(self)
        made.text = b"%b,%b" % (self.text[:-1], encode(more)[1:])
        return made

    @property
    def value(self) -> Any:
        """What was encoded, as JSON types."""
        return decode(self.text)


def plain(value: Any) -> Any:
    """``value`` as JSON types, whatever in it is encoded: for those who write JSON by other means."""
    return decode(encode(value))


def _text(value: Any) -> Any:
    """For the standard library: what it writes in place of what it does not know."""
    if isinstance(value, Encoded):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID | Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _fragment(value: Any) -> Any:
    """As :func:`_text`, for orjson, which takes text as it is."""
    return _orjson.Fragment(value.text) if isinstance(value, Encoded) else _text(value)


_FORM: dict[str, Any] = {"default": _text, "ensure_ascii": False, "separators": (",", ":"), "allow_nan": False}
_plain = json.JSONEncoder(**_FORM).encode
_sorted = json.JSONEncoder(**_FORM, sort_keys=True).encode
_strict = json.JSONEncoder(**{**_FORM, "default": None}, sort_keys=True).encode


def encode(value: Any) -> bytes:
    """Compact JSON; uuids, instants and decimals as text. Raises TypeError for what has no JSON form.

    NaN and infinities, which messages refuse before, are null or a ValueError, never a word that is no JSON."""
    if isinstance(value, Encoded):
        return value.text
    if _orjson is not None:
        try:
            text: bytes = _orjson.dumps(value, default=_fragment)
            return text
        except TypeError:
            pass
    return _plain(value).encode()


def decode(text: str | bytes) -> Any:
    """The value of a JSON text, integers of any size exact; raises ValueError for what is none."""
    return from_json(text)


def canonical(value: Any) -> bytes:
    """As :func:`encode`, object keys in order: equal values give equal bytes in one environment."""
    if _orjson is not None:
        try:
            text: bytes = _orjson.dumps(value, default=_fragment, option=_orjson.OPT_SORT_KEYS)
            return text
        except TypeError:
            pass
    return _sorted(value).encode()


def canonical_json(value: Any) -> bytes:
    """As :func:`canonical`, for what consists of JSON types and uuids; TypeError for anything else."""
    if _orjson is not None:
        text: bytes = _orjson.dumps(value, option=_ONLY_JSON)
        return text
    return _strict(value).encode()
