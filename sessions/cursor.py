"""Opaque keyset cursors (row Q-03)."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import datetime
from uuid import UUID

from sessionfleet.errors import ValidationFailed


def encode(created_at: datetime, id_: str) -> str:
    """The cursor after the row with this sort key."""
    text = json.dumps([created_at.isoformat(), id_])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str) -> tuple[datetime, UUID]:
    """The sort key of a cursor; raises ValidationFailed for text that is none."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        created_at, id_ = json.loads(text)
        return datetime.fromisoformat(created_at), UUID(id_)
    except (ValueError, TypeError, AttributeError, binascii.Error):
        raise ValidationFailed.of("cursor", "is not a cursor this fleet gave out") from None
