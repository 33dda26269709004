"""When a failed run is tried again (row H-10)."""

from __future__ import annotations

import zlib
from datetime import timedelta

JITTER = 0.1
LONGEST = timedelta(days=1)


def wait(retry_delay_minutes: int, attempt: int, execution_id: str) -> timedelta:
    """The wait after the failed attempt ``attempt`` (from 1): the delay, doubled each time, at most a
    day, plus up to a tenth of it. The addition follows from the execution, so a plan can name it."""
    doubled: int = 2 ** min(attempt - 1, 20)
    plain = min(timedelta(minutes=retry_delay_minutes) * doubled, LONGEST)
    share: float = zlib.crc32(f"{execution_id}:{attempt}".encode()) / 2**32
    return plain * (1 + JITTER * share)
