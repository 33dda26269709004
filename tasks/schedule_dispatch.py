"""The tick: settle slots, make way, give up lost runs, send what waits - each batch its own transaction (H-06).

The queued row is the outbox. It is committed with its slot, then its message is sent; a crash in
between costs RESEND, after which any later tick sends it again. A copy finds the row no longer queued.
Slots of the coming tick are settled with it, and their messages carry their exact start.
"""

from __future__ import annotations

from datetime import timedelta

from reviews import dispatch as ledger
from reviews.commands import RESEND
from reviews.store import executions
from tasks import schedule_runs
from tasks.runtime import Runtime
from tasks.unit_of_work import transaction

ROUNDS = 100
"""Transactions of one kind in one tick; a longer backlog goes on with the next tick."""

MESSAGES_AT_ONCE = 250

MARGIN = 0.5
"""Seconds beyond the next tick that are looked ahead: it may come a little late."""

MOST_AHEAD = 10.0
"""Seconds looked ahead at most: a change of a schedule takes effect on what is not settled yet."""


def dispatch(runtime: Runtime, grace: timedelta) -> dict[str, int]:
    """Settle every due slot, queue lost runs again, send queued runs; what was done, counted."""
    ahead = min(runtime.dispatch_due_interval + MARGIN, MOST_AHEAD)
    queued, skipped = _settle_all(runtime, grace, ahead)
    for _ in range(ROUNDS):
        with transaction(runtime, actor="fleet") as work:
            followed = ledger.follow_zones(work.db, work.now)
        if not followed:
            break
    stopped = schedule_runs.stop_others(runtime)
    lost = 0
    for _ in range(ROUNDS):
        found = schedule_runs.give_up_lost(runtime)
        lost += found
        if not found:
            break
    published = 0
    for _ in range(ROUNDS):
        sent = publish(runtime, ahead)
        published += sent
        if sent < MESSAGES_AT_ONCE:
            break
    return {"queued": queued, "skipped": skipped, "stopped": stopped, "lost": lost, "published": published}


def _settle_all(runtime: Runtime, grace: timedelta, ahead: float) -> tuple[int, int]:
    queued = skipped = 0
    for coming in (False, True):
        for _ in range(ROUNDS):
            with transaction(runtime, actor="fleet") as work:
                if coming:
                    settled = ledger.settle_ahead(work.db, work.now, timedelta(seconds=ahead), grace)
                else:
                    settled = ledger.settle_due(work.db, work.now, grace)
            queued += settled.queued
            skipped += settled.skipped
            if not settled.schedules:
                break
    return queued, skipped


def publish(runtime: Runtime, ahead: float) -> int:
    """Send the messages of one batch of queued runs; how many. Raises what the broker raises: the
    rest of the batch is sent again after RESEND."""
    with transaction(runtime, actor="fleet") as work:
        waiting = executions.to_publish(work.db, MESSAGES_AT_ONCE, RESEND.total_seconds(), ahead)
    for one in waiting:
        schedule_runs.send(runtime, one)
    return len(waiting)
