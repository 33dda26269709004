"""Rows of ``scheduled_reviews``: insert, lock, claim what is due, change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, insert, not_, or_, select, text, update

from models import ScheduledReview, ScheduleExecution, table_of
from sessionfleet.errors import ScheduleNotFound

Row = dict[str, Any]

_t = table_of(ScheduledReview)
_c = _t.c
_e = table_of(ScheduleExecution).c

_NOW = func.statement_timestamp()
"""The clock of the database in a form that an index can be asked with."""

_MOVE = text("""
    UPDATE scheduled_reviews SET next_run = to_be.next_run, dropped = scheduled_reviews.dropped + to_be.dropped
    FROM unnest(CAST(:ids AS text[]), CAST(:slots AS timestamptz[]), CAST(:dropped AS int[]))
        AS to_be (id, next_run, dropped)
    WHERE schedule_id = to_be.id
""")


def add(db: Connection, values: Mapping[str, Any]) -> Row:
    """Insert one schedule; the row as stored."""
    return db.execute(insert(_t).values(**values).returning(*_c)).one()._asdict()


def lock(db: Connection, schedule_id: str) -> Row:
    """One schedule, locked against dispatchers and other writers (FOR NO KEY UPDATE, so that runs may
    still refer to it); raises ScheduleNotFound for an unknown or deleted one."""
    statement = select(*_c).where(_c.schedule_id == schedule_id, _c.deleted_at.is_(None))
    row = db.execute(statement.with_for_update(key_share=True)).first()
    if row is None:
        raise ScheduleNotFound(schedule_id=schedule_id)
    return row._asdict()


def hold(db: Connection, schedule_id: Any) -> None:
    """Lock a schedule, deleted or not, before the rows of its runs: dispatchers take them in this order."""
    db.execute(select(_c.schedule_id).where(_c.schedule_id == schedule_id).with_for_update(key_share=True))


def claim_due(db: Connection, limit: int) -> list[Row]:
    """Schedules whose next slot has come by the database clock, earliest first, locked until the
    transaction ends; those that another dispatcher holds are passed over."""
    statement = (
        select(*_c)
        .where(_c.next_run <= _NOW)
        .order_by(_c.next_run)
        .limit(limit)
        .with_for_update(skip_locked=True, key_share=True)
    )
    return [row._asdict() for row in db.execute(statement)]


def claim_coming(db: Connection, until: datetime, limit: int) -> list[Row]:
    """Schedules whose next slot comes by ``until`` and can be decided before: enabled, and without a run
    that waits or is under way unless runs may overlap. Locked, earliest first; what others hold is passed
    over."""
    busy = select(_e.execution_id).where(
        _e.schedule_id == _c.schedule_id, _e.status.in_(("queued", "running")), _e.kind != "backfill"
    )
    statement = (
        select(*_c)
        .where(_c.next_run > _NOW, _c.next_run <= until, _c.enabled)
        .where(or_(_c.overlap == "allow_all", not_(busy.exists())))
        .order_by(_c.next_run)
        .limit(limit)
        .with_for_update(of=_t, skip_locked=True, key_share=True)
    )
    return [row._asdict() for row in db.execute(statement)]


def claim_outdated(db: Connection, tzdata_version: str, limit: int) -> list[Row]:
    """Schedules without a due slot whose ``next_run`` comes of zone rules older than those, locked; what
    others hold is passed over."""
    statement = (
        select(*_c)
        .where(_c.tzdata_version < tzdata_version, (_c.next_run > _NOW) | _c.next_run.is_(None))
        .limit(limit)
        .with_for_update(skip_locked=True, key_share=True)
    )
    return [row._asdict() for row in db.execute(statement)]


class Move(NamedTuple):
    """Where a schedule goes: its next slot, and how many slots it dropped."""

    schedule_id: str
    next_run: datetime | None
    dropped: int = 0


def move(db: Connection, moves: Sequence[Move]) -> None:
    """Set the next slot of locked schedules, in one statement."""
    if moves:
        ids, slots, dropped = (list(column) for column in zip(*moves, strict=True))
        db.execute(_MOVE, {"ids": ids, "slots": slots, "dropped": dropped})


def change(db: Connection, schedule_id: str, values: Mapping[str, Any]) -> Row:
    """Write columns of one locked schedule; the row as stored."""
    statement = update(_t).where(_c.schedule_id == schedule_id).values(**values)
    return db.execute(statement.returning(*_c)).one()._asdict()


def count_run(db: Connection, schedule_id: str, started_at: datetime, status: str, *, stopped: bool) -> None:
    """Note that a run of the schedule has ended; it is paused after ``pause_after_failures`` in a row. A run
    that was ``stopped`` for a later slot is no failure."""
    failures: Any = 0 if status == "success" else _c.failures_in_row + (0 if stopped else 1)
    row = db.execute(
        update(_t)
        .where(_c.schedule_id == schedule_id)
        .values(last_run=started_at, last_status=status, run_count=_c.run_count + 1, failures_in_row=failures)
        .returning(_c.enabled, _c.pause_after_failures, _c.failures_in_row)
    ).one()
    if row.enabled and 0 < row.pause_after_failures <= row.failures_in_row:
        note = f"{row.failures_in_row} runs in a row failed"
        change(db, schedule_id, {"enabled": False, "pause_note": note})
