"""Opaque keyset cursors over (instant, word)."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import datetime

from sessionfleet.errors import ValidationFailed


def encode(instant: datetime, word: str) -> str:
    """The cursor after the row with this sort key."""
    text = json.dumps([instant.isoformat(), word])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str) -> tuple[datetime, str]:
    """The sort key of a cursor; raises ValidationFailed for text that is none."""
    try:
        instant, word = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return datetime.fromisoformat(instant), str(word)
    except (ValueError, TypeError, binascii.Error):
        raise ValidationFailed.of("cursor", "is not a cursor this fleet gave out") from None
