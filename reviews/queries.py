"""Reads of schedules and of the ledger (rows H-12, H-13). They change nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any

from sqlalchemy import Connection, select, tuple_

from models import ScheduleAttempt, ScheduledReview, ScheduleExecution, table_of
from reviews import cursor, documents
from sessionfleet.errors import ScheduleNotFound
from sessionfleet.messages import schedule as m

_s = table_of(ScheduledReview).c
_e = table_of(ScheduleExecution).c
_a = table_of(ScheduleAttempt).c


def get(db: Connection, schedule_id: str) -> documents.Document:
    """One schedule; raises ScheduleNotFound for an unknown or deleted one."""
    statement = select(*_s).where(_s.schedule_id == schedule_id, _s.deleted_at.is_(None))
    row = db.execute(statement).first()
    if row is None:
        raise ScheduleNotFound(schedule_id=schedule_id)
    return documents.schedule(row._asdict())


def page(db: Connection, command: m.ListSchedules) -> dict[str, Any]:
    """Schedules, newest first."""
    statement = select(*_s).where(_s.deleted_at.is_(None))
    if command.owner_id is not None:
        statement = statement.where(_s.owner_id == command.owner_id)
    if command.enabled_only:
        statement = statement.where(_s.enabled)
    if command.cursor is not None:
        statement = statement.where(tuple_(_s.created_at, _s.schedule_id) < cursor.decode(command.cursor))
    statement = statement.order_by(_s.created_at.desc(), _s.schedule_id.desc()).limit(command.limit + 1)
    rows = [row._asdict() for row in db.execute(statement)]
    more = len(rows) > command.limit
    rows = rows[: command.limit]
    last = rows[-1] if more else None
    return {
        "items": [documents.schedule(row) for row in rows],
        "next_cursor": None if last is None else cursor.encode(last["created_at"], last["schedule_id"]),
    }


def history(db: Connection, command: m.ScheduleHistory) -> dict[str, Any]:
    """The ledger of one schedule, latest slot first; also of a deleted one."""
    known = select(_s.schedule_id).where(_s.schedule_id == command.schedule_id)
    if db.execute(known).first() is None:
        raise ScheduleNotFound(schedule_id=command.schedule_id)
    statement = select(*_e).where(_e.schedule_id == command.schedule_id)
    if command.status is not None:
        statement = statement.where(_e.status == command.status)
    if command.cursor is not None:
        statement = statement.where(tuple_(_e.nominal_utc, _e.kind) < cursor.decode(command.cursor))
    statement = statement.order_by(_e.nominal_utc.desc(), _e.kind.desc()).limit(command.limit + 1)
    rows = [row._asdict() for row in db.execute(statement)]
    more = len(rows) > command.limit
    rows = rows[: command.limit]
    tried = _attempts(db, [row["execution_id"] for row in rows if row["attempt"]])
    last = rows[-1] if more else None
    return {
        "items": [documents.execution(row, tried[row["execution_id"]]) for row in rows],
        "next_cursor": None if last is None else cursor.encode(last["nominal_utc"], last["kind"]),
    }


def _attempts(db: Connection, execution_ids: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    if execution_ids:
        statement = select(*_a).where(_a.execution_id.in_(execution_ids)).order_by(_a.attempt)
        for row in db.execute(statement):
            found[row.execution_id].append(row._asdict())
    return found
