"""Opaque keyset cursors over (instant, word) and over (risk, position)."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import Any

from sessionfleet.errors import ValidationFailed


def encode(instant: datetime, word: str) -> str:
    """The cursor after the row with this sort key."""
    return _text([instant.isoformat(), word])


def decode(cursor: str) -> tuple[datetime, str]:
    """The sort key of a cursor; raises ValidationFailed for text that is none."""
    try:
        instant, word = _read(cursor)
        return datetime.fromisoformat(instant), str(word)
    except (ValueError, TypeError):
        raise _foreign() from None


def encode_rank(risk: float, position: int) -> str:
    """The cursor after the account with this sort key."""
    return _text([risk, position])


def decode_rank(cursor: str) -> tuple[float, int]:
    """The sort key of such a cursor; raises ValidationFailed for text that is none."""
    try:
        risk, position = _read(cursor)
        return float(risk), int(position)
    except (ValueError, TypeError, OverflowError):
        raise _foreign() from None


def _text(key: list[Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(key).encode()).decode().rstrip("=")


def _read(cursor: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))


def _foreign() -> ValidationFailed:
    return ValidationFailed.of("cursor", "is not a cursor this fleet gave out")
