"""Uuids as text. Each operation reads and makes several, and the uuid module takes four times as long."""

from __future__ import annotations

import os
import re
from collections import deque
from uuid import UUID

AT_ONCE = 256
"""Ids' worth of random bytes asked of the kernel in one call."""

_bytes: deque[str] = deque()
"""Random bytes in hexadecimal, for one id each. A child takes none of its parent's."""
os.register_at_fork(after_in_child=_bytes.clear)

_VARIANTS = dict(zip("0123456789abcdef", "89ab" * 4, strict=True))
_is_canonical = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch


def random_id() -> str:
    """A random uuid (version 4 of RFC 9562) in its canonical form."""
    try:
        digits = _bytes.popleft()
    except IndexError:
        block = os.urandom(16 * AT_ONCE).hex()
        digits, *others = (block[at : at + 32] for at in range(0, len(block), 32))
        _bytes.extend(others)
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
