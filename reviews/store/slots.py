"""Reads of single slots, for explanations and backfills."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, or_, select

from models import AuditEvent, ScheduledReview, ScheduleExecution, table_of
from sessionfleet.errors import ScheduleNotFound

Row = dict[str, Any]

_s = table_of(ScheduledReview).c
_e = table_of(ScheduleExecution).c
_a = table_of(AuditEvent).c

SLOTS = ("scheduled", "backfill")
"""Kinds of rows that are slots of the recurrence."""


def clock(db: Connection) -> datetime:
    """The database's clock."""
    now: datetime = db.execute(select(func.clock_timestamp())).scalar_one()
    return now


def schedule(db: Connection, schedule_id: str, *, deleted: bool = False) -> Row:
    """One schedule as stored; raises ScheduleNotFound, also for a deleted one unless these are wanted."""
    statement = select(*_s).where(_s.schedule_id == schedule_id)
    if not deleted:
        statement = statement.where(_s.deleted_at.is_(None))
    row = db.execute(statement).first()
    if row is None:
        raise ScheduleNotFound(schedule_id=schedule_id)
    return row._asdict()


def latest(db: Connection, schedule_id: str) -> Row | None:
    """The ledger row of the latest slot."""
    statement = select(*_e).where(_e.schedule_id == schedule_id, _e.kind.in_(SLOTS))
    return _first(db, statement.order_by(_e.nominal_utc.desc(), _e.kind.desc()))


def last(db: Connection, schedule_id: str) -> datetime | None:
    """The latest slot that the schedule itself had."""
    statement = select(func.max(_e.nominal_utc)).where(_e.schedule_id == schedule_id, _e.kind == "scheduled")
    found: datetime | None = db.execute(statement).scalar_one()
    return found


def within(db: Connection, schedule_id: str, begin: datetime, end: datetime) -> Row | None:
    """The ledger row of the first slot in [``begin``, ``end``); that of the schedule before a backfilled one."""
    statement = select(*_e).where(_e.schedule_id == schedule_id, _e.kind.in_(SLOTS))
    statement = statement.where(_e.nominal_utc >= begin, _e.nominal_utc < end)
    return _first(db, statement.order_by(_e.nominal_utc, _e.kind.desc()))


def in_the_way(db: Connection, slot: Row) -> Row | None:
    """The run that waited or was under way when ``slot`` was settled."""
    statement = select(*_e).where(
        _e.schedule_id == slot["schedule_id"],
        _e.execution_id != slot["execution_id"],
        _e.status != "skipped",
        _e.queued_at <= slot["queued_at"],
        or_(_e.ended_at.is_(None), _e.ended_at >= slot["queued_at"]),
    )
    return _first(db, statement.order_by(_e.queued_at.desc()))


def paused_since(db: Connection, schedule_id: str, at: datetime) -> Row | None:
    """timestamp, actor and metadata of the pause that lasted then, from the audit; None when the schedule was
    switched off in another way."""
    statement = select(_a.timestamp, _a.actor, _a.action, _a.metadata).where(
        _a.resource == f"schedule:{schedule_id}",
        _a.action.in_(("schedule.pause", "schedule.resume")),
        _a.timestamp <= at,
    )
    last = _first(db, statement.order_by(_a.timestamp.desc()))
    return last if last is not None and last["action"] == "schedule.pause" else None


def taken(db: Connection, schedule_id: str, begin: datetime, end: datetime) -> dict[datetime, set[str]]:
    """Nominal time -> what the ledger has of the slot in [``begin``, ``end``): ``backfill``, ``skipped``
    for a row of the schedule that was not run, ``scheduled`` for any other."""
    statement = select(_e.nominal_utc, _e.kind, _e.status).where(
        _e.schedule_id == schedule_id, _e.kind.in_(SLOTS), _e.nominal_utc >= begin, _e.nominal_utc < end
    )
    found: dict[datetime, set[str]] = {}
    for nominal, kind, status in db.execute(statement):
        word = "skipped" if kind == "scheduled" and status == "skipped" else kind
        found.setdefault(nominal, set()).add(word)
    return found


def runs(db: Connection, schedule_id: str) -> int:
    """Slots of the schedule that ran or are to run."""
    statement = select(func.count()).where(
        _e.schedule_id == schedule_id, _e.kind == "scheduled", _e.status != "skipped"
    )
    return int(db.execute(statement).scalar_one())


def _first(db: Connection, statement: Any) -> Row | None:
    row = db.execute(statement.limit(1)).first()
    return None if row is None else row._asdict()
