"""What becomes of a write nobody waits for, where its error would be read by nobody.

It waits out an outage of PostgreSQL. If its arguments do not fit it is kept: a newer release may know them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from celery.exceptions import Reject

from sessionfleet.errors import Unavailable, ValidationFailed

HOLD = 5.0
"""Seconds a process tries before it gives the message back, to look after its other business."""

PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds between two tries, doubling."""


def for_nobody(once: Callable[[], Any]) -> Any:
    """``once()``, again while it raises Unavailable; after HOLD the message goes back to the end of its queue.
    One that does not validate becomes a dead letter.

    Repeating is safe: the idempotency key, or the task id in its place, is that of the first try. Messages behind
    it wait, as the same outage would meet them.
    """
    pause, until = PAUSE, time.monotonic() + HOLD
    while True:
        try:
            return once()
        except ValidationFailed as error:
            error.dead_letter = True
            raise
        except Unavailable as error:
            if time.monotonic() + pause > until:
                raise Reject(str(error), requeue=True) from None
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)
