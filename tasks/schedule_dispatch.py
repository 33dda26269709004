"""The tick: settle slots, give up lost runs, send what waits - each batch its own transaction (H-06).

The queued row is the outbox. It is committed with its slot, then its message is sent; a crash in
between costs RESEND, after which any later tick sends it again. A copy finds the row no longer queued.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from reviews import dispatch as ledger
from reviews.commands import RESEND
from reviews.store import executions
from sessionfleet.words import Priority
from tasks import schedule_runs
from tasks.runtime import Runtime
from tasks.unit_of_work import transaction

log = logging.getLogger(__name__)

ROUNDS = 100
"""Transactions of one kind in one tick; a longer backlog goes on with the next tick."""

MESSAGES_AT_ONCE = 100


def dispatch(runtime: Runtime, grace: timedelta) -> dict[str, int]:
    """Settle every due slot, queue lost runs again, send queued runs; what was done, counted."""
    queued = skipped = lost = published = 0
    for _ in range(ROUNDS):
        with transaction(runtime, actor="fleet") as work:
            settled = ledger.settle_due(work.db, work.now, grace)
        queued += settled.queued
        skipped += settled.skipped
        if not settled.schedules:
            break
    for _ in range(ROUNDS):
        with transaction(runtime, actor="fleet") as work:
            followed = ledger.follow_zones(work.db, work.now)
        if not followed:
            break
    for _ in range(ROUNDS):
        found = schedule_runs.give_up_lost(runtime)
        lost += found
        if not found:
            break
    for _ in range(ROUNDS):
        sent = publish(runtime)
        published += sent
        if sent < MESSAGES_AT_ONCE:
            break
    return {"queued": queued, "skipped": skipped, "lost": lost, "published": published}


def publish(runtime: Runtime) -> int:
    """Send the messages of one batch of queued runs; how many. Raises what the broker raises: the
    rest of the batch is sent again after RESEND."""
    with transaction(runtime, actor="fleet") as work:
        waiting = executions.to_publish(work.db, MESSAGES_AT_ONCE, RESEND.total_seconds())
    for execution_id, priority in waiting:
        send(runtime, execution_id, priority)
    return len(waiting)


def try_to_send(runtime: Runtime, execution_id: str) -> None:
    """The message of a run that was triggered. Never raises: a later tick sends it again."""
    try:
        send(runtime, execution_id, "high")
    except Exception:
        log.warning("message not sent", exc_info=True, extra={"execution_id": execution_id})


def send(runtime: Runtime, execution_id: str, priority: Priority) -> None:
    """One message that starts one run."""
    runtime.send("schedule.run_review", {"execution_id": execution_id}, priority)
