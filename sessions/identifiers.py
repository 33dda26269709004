"""Uuids as text. Each operation reads and makes several, and the uuid module takes four times as long."""

from __future__ import annotations

import re
from secrets import SystemRandom
from uuid import UUID

_random_bytes = SystemRandom().randbytes
_VARIANTS = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
_is_canonical = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch


def random_id() -> str:
    """A random uuid (version 4 of RFC 9562) in its canonical form."""
    digits = _random_bytes(16).hex()
    variant = _VARIANTS[digits[16]]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"


def uuid_text(text: str) -> str | None:
    """The canonical form of a uuid in any spelling; None for what is no uuid."""
    if _is_canonical(text):
        return text
    try:
        return str(UUID(text))
    except ValueError:
        return None
