"""The tick: settle slots, make way, give up lost runs, send what waits - each batch its own transaction (H-06).

The queued row is the outbox. It is committed with its slot, then its message is sent; a crash in
between costs RESEND, after which any later tick sends it again. A copy finds the row no longer queued.
Slots of the coming tick are settled with it, and their messages carry their exact start.

Messages of a batch leave in one pipeline right after its commit. Slots that make other runs of their schedule
end are sent last, when these have been told.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from reviews import dispatch as ledger
from reviews.store import executions
from reviews.store.executions import Message
from tasks import schedule_runs
from tasks.runtime import Runtime
from tasks.unit_of_work import transaction

log = logging.getLogger(__name__)

ROUNDS = 100
"""Transactions of one kind in one tick; a longer backlog goes on with the next tick."""

MESSAGES_AT_ONCE = 250

MARGIN = 0.5
"""Seconds beyond the next tick that are looked ahead: it may come a little late."""

MOST_AHEAD = 10.0
"""Seconds looked ahead at most: a change of a schedule takes effect on what is not settled yet."""


class _Sending:
    """What one tick sends. Once the broker refuses it sends no more, so that an outage does not keep slots from
    being settled; what was not sent is sent again after RESEND."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.sent = 0
        self.error: Exception | None = None

    def __call__(self, messages: Sequence[Message]) -> None:
        if not messages or self.error is not None:
            return
        try:
            schedule_runs.send(self.runtime, messages)
        except Exception as error:  # noqa: BLE001 - raised at the end of the tick
            self.error = error
        else:
            self.sent += len(messages)


def dispatch(runtime: Runtime, grace: timedelta) -> dict[str, int]:
    """Settle every due slot, queue lost runs again, send queued runs; what was done, counted.

    Raises what the broker raised, after everything that needs no broker has been done.
    """
    ahead = timedelta(seconds=min(runtime.dispatch_due_interval + MARGIN, MOST_AHEAD))
    sending = _Sending(runtime)
    queued, skipped = _settle_all(runtime, grace, ahead, sending)
    now = _follow_zones(runtime)
    stopped = schedule_runs.stop_others(runtime)
    lost = 0
    for _ in range(ROUNDS):
        found = schedule_runs.give_up_lost(runtime)
        lost += found
        if not found:
            break
    for _ in range(ROUNDS):
        if sending.error is not None or not _send_waiting(runtime, now + ahead, sending):
            break
    if sending.error is not None:
        raise sending.error
    return {"queued": queued, "skipped": skipped, "stopped": stopped, "lost": lost, "published": sending.sent}


def _settle_all(runtime: Runtime, grace: timedelta, ahead: timedelta, sending: _Sending) -> tuple[int, int]:
    queued = skipped = 0
    for coming in (False, True):
        for _ in range(ROUNDS):
            with transaction(runtime, actor="fleet") as work:
                if coming:
                    settled = ledger.settle_ahead(work.db, work.now, ahead, grace)
                else:
                    settled = ledger.settle_due(work.db, work.now, grace, work.now + ahead)
            sending(settled.messages)
            queued += settled.queued
            skipped += settled.skipped
            if not settled.schedules:
                break
    return queued, skipped


def _follow_zones(runtime: Runtime) -> datetime:
    for _ in range(ROUNDS):
        with transaction(runtime, actor="fleet") as work:
            followed = ledger.follow_zones(work.db, work.now)
        if not followed:
            break
    return work.now


def _send_waiting(runtime: Runtime, by: datetime, sending: _Sending) -> bool:
    """Send one batch of the outbox; whether there may be more. ``by`` stands still during a tick, so that a long one
    does not send its own messages again."""
    with transaction(runtime, actor="fleet") as work:
        waiting = executions.to_publish(work.db, MESSAGES_AT_ONCE, by)
    sending(waiting)
    return len(waiting) == MESSAGES_AT_ONCE
