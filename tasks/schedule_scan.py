"""The scan of schedules: finds what no tick has looked after, puts it right, tells of it (rows H-06, N-09)."""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from typing import Any

from reviews import recurrence
from reviews.rule import Rule
from reviews.store import schedules, slots, upkeep
from sessionfleet.messages.schedule_scan import ScanSchedules
from tasks import schedule_dispatch
from tasks.base import duty
from tasks.runtime import Runtime
from tasks.unit_of_work import Work, transaction

log = logging.getLogger(__name__)

STOPPED_AT_ONCE = 500
SKEW = 1.0
"""Seconds between two clocks from which they are told of."""


@duty(ScanSchedules)
def scan(runtime: Runtime, _: ScanSchedules) -> dict[str, Any]:
    """Find, repair, report."""
    skew = clock_skew(runtime)
    with transaction(runtime, actor="fleet") as work:
        found = upkeep.left_behind(work.db)
        found["stopped"] = _set_going(work)
        found["unsent"] += upkeep.bring_near(work.db)
        found["duplicates"] = 0 if found["slot_index"] else upkeep.single_out(work.db)
    wrong = {name: found[name] for name in ("overdue", "stopped", "lost", "unsent", "duplicates") if found[name]}
    if wrong:
        schedule_dispatch.dispatch(runtime, timedelta(seconds=runtime.misfire_grace))
    if wrong or abs(skew) > SKEW or not found["slot_index"]:
        log.warning("schedules needed repair", extra={**found, "clock_skew_seconds": skew})
    return {**found, "clock_skew_seconds": skew, "repaired": bool(wrong)}


def clock_skew(runtime: Runtime) -> float:
    """How many seconds this worker's clock is ahead of the database's, to the half of a round trip."""
    with runtime.engine.connect() as db:
        slots.clock(db)  # the connection may be new
        before = time.time()
        theirs = slots.clock(db).timestamp()
        after = time.time()
    return round((before + after) / 2 - theirs, 3)


def _set_going(work: Work) -> int:
    moves = []
    for row in upkeep.stopped(work.db, STOPPED_AT_ONCE):
        next_run = recurrence.first(Rule.of(row), work.now)
        if next_run is not None:
            moves.append(schedules.Move(row["schedule_id"], next_run))
    schedules.move(work.db, moves)
    return len(moves)
