"""Settling slots: the ledger row and the next slot of a schedule in one transaction (row H-06)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from reviews import ledger, recurrence, zones
from reviews.rule import Rule
from reviews.store import executions, schedules
from reviews.store.executions import Message

SCHEDULES_AT_ONCE = 200
ROWS_AT_ONCE = 5000
"""Schedules and ledger rows of one transaction; what is beyond waits for the next."""

BUFFERS = ("buffer_one", "buffer_all")
"""Overlap policies whose drops are counted."""

MAKES_WAY = ("cancel_other", "terminate_other")
"""Overlap policies whose slots must not be sent before other runs were told to end."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What one transaction did; ``schedules`` is 0 when nothing was due. ``messages`` are to be sent once it is
    committed; those of other runs it queued are left to the outbox."""

    schedules: int = 0
    queued: int = 0
    skipped: int = 0
    messages: Sequence[Message] = ()


def settle_due(db: Connection, now: datetime, grace: timedelta, sent_until: datetime | None = None) -> Settled:
    """Settle schedules that are due by the database clock. Any number of dispatchers may do this at
    once: each locks what it settles and passes over what others hold. The caller sends the messages of runs that
    start by ``sent_until``."""
    return _settle(db, schedules.claim_due(db, SCHEDULES_AT_ONCE), now, grace, sent_until)


def settle_ahead(db: Connection, now: datetime, ahead: timedelta, grace: timedelta) -> Settled:
    """Settle the slots of the coming ``ahead`` now, so that their messages can carry their exact start: one
    slot of each schedule, and none of those that are paused or have a run that waits or is under way,
    because it may be over by then. The caller sends their messages."""
    return _settle(db, schedules.claim_coming(db, now + ahead, SCHEDULES_AT_ONCE), now, grace, now + ahead)


def settle_one(db: Connection, schedule: schedules.Row, now: datetime, grace: timedelta) -> datetime | None:
    """Settle all due slots of a schedule that is locked, before it changes; its next slot after them."""
    next_run: datetime | None = schedule["next_run"]
    while next_run is not None and next_run <= now:
        _settle(db, [schedule], now, grace)
        schedule = schedules.lock(db, schedule["schedule_id"])
        next_run = schedule["next_run"]
    return next_run


def follow_zones(db: Connection, now: datetime) -> int:
    """Compute next slots anew that an older release of the zone rules gave (H-05); how many schedules.
    Slots that are due are settled as they stand, before."""
    old = schedules.claim_outdated(db, zones.TZDATA_VERSION, SCHEDULES_AT_ONCE)
    for schedule in old:
        rule, next_run = Rule.of(schedule), schedule["next_run"]
        if next_run is not None and rule.schedule_type != "interval":
            next_run = recurrence.first(rule, now)
        schedules.change(db, schedule["schedule_id"], {"next_run": next_run, "tzdata_version": zones.TZDATA_VERSION})
    return len(old)


def _settle(
    db: Connection,
    due: Sequence[schedules.Row],
    now: datetime,
    grace: timedelta,
    sent_until: datetime | None = None,
) -> Settled:
    if not due:
        return Settled()
    active = executions.active(db, [schedule["schedule_id"] for schedule in due])
    limited = [schedule["schedule_id"] for schedule in due if schedule["max_runs"] is not None]
    so_far = executions.slots_run(db, limited) if limited else {}
    waiting = Counter(executions.waiting(db, {schedule["owner_id"] for schedule in due}))
    rows: list[dict[str, Any]] = []
    moves: list[schedules.Move] = []
    for schedule in due:
        if len(rows) >= ROWS_AT_ONCE:
            break
        schedule_id, owner_id, next_run = schedule["schedule_id"], schedule["owner_id"], schedule["next_run"]
        plan = ledger.plan(
            Rule.of(schedule, anchor=next_run),
            next_run,
            max(now, next_run),  # a slot of the coming tick is decided as of its own time
            _policy(schedule, active.get(schedule_id, 0), so_far.get(schedule_id, 0), waiting[owner_id], grace),
        )
        waiting[owner_id] += sum(slot.reason is None for slot in plan.slots)
        sent = None if schedule["overlap"] in MAKES_WAY else sent_until
        rows += [executions.row_of(slot, schedule_id, schedule["priority"], now, sent) for slot in plan.slots]
        dropped = plan.crowded_out if schedule["overlap"] in BUFFERS else 0
        moves.append(schedules.Move(schedule_id, plan.next_run, dropped))
    new = executions.add(db, rows)
    schedules.move(db, moves)
    added = [row for row in rows if row["execution_id"] in new]
    queued = [row for row in added if row["status"] == "queued"]
    messages = [executions.message_of(row, now) for row in queued if row["publishes"]]
    return Settled(len(moves), len(queued), len(added) - len(queued), messages)


def _policy(schedule: schedules.Row, active: int, so_far: int, waiting: int, grace: timedelta) -> ledger.Policy:
    most = schedule["max_runs"]
    return ledger.Policy(
        schedule_id=schedule["schedule_id"],
        enabled=schedule["enabled"],
        grace=grace,
        coalesce=schedule["coalesce"],
        left=None if most is None else max(most - so_far, 0),
        capacity=ledger.MAX_WAITING - waiting,
        **ledger.overlapping(schedule["overlap"], schedule["max_instances"], active),
    )
