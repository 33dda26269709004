"""Spreading starts that would fall together, the same way on every computation (row H-17)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import blake2b

_STEPS = 1 << 64


def jitter(key: str, nominal: datetime, spread: timedelta) -> timedelta:
    """A delay from 0 up to, never with, ``spread``, in whole microseconds.

    It depends on ``key`` (the schedule's id) and the nominal instant alone: whoever computes it, whenever,
    in whichever process, gets the same. Over many keys it is uniform. No or negative spread gives 0.
    """
    if spread <= timedelta(0):
        return timedelta(0)
    text = f"{nominal.astimezone(UTC).isoformat(timespec='microseconds')} {key}"
    drawn = int.from_bytes(blake2b(text.encode(), digest_size=8).digest())
    return timedelta(microseconds=spread // timedelta(microseconds=1) * drawn // _STEPS)
