"""JSON text, written and read with orjson where it is installed: a fraction of the standard library's time.

Exact either way: what orjson cannot hold, such as integers beyond 64 bits, the standard library writes and reads.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from decimal import Decimal
from typing import Any, cast
from uuid import UUID


def _fast() -> Any:
    try:
        import orjson
    except ImportError:  # a client without the extra `fast`
        return None
    return orjson


_orjson = _fast()


def _text(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID | Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


_plain = json.JSONEncoder(default=_text, ensure_ascii=False, separators=(",", ":")).encode
_sorted = json.JSONEncoder(default=_text, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode
_LONG = re.compile(r"\d{16}")
"""Digits in a row from which a number may be beyond what orjson keeps."""


def encode(value: Any) -> bytes:
    """Compact JSON; uuids, instants and decimals as text. Raises TypeError for what has no JSON form."""
    if _orjson is not None:
        try:
            return cast(bytes, _orjson.dumps(value, default=_text))
        except TypeError:
            pass
    return _plain(value).encode()


def decode(text: str) -> Any:
    """The value of a JSON text; raises ValueError for what is none."""
    if _orjson is not None and _LONG.search(text) is None:
        return _orjson.loads(text)
    return json.loads(text)


def canonical(value: Any) -> bytes:
    """As :func:`encode`, object keys in order: equal values give equal bytes in one environment."""
    if _orjson is not None:
        try:
            return cast(bytes, _orjson.dumps(value, default=_text, option=_orjson.OPT_SORT_KEYS))
        except TypeError:
            pass
    return _sorted(value).encode()
