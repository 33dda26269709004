"""Which run of an owner starts next, and when (rows H-09, H-16, E-14).

A message about a run is a poke for its owner: whoever takes it starts the best run that waits, which may be
another one. Best is the highest priority, one step higher for each minute it has waited, then the earliest
start. A slot waits for runs of its schedule that are under way or come before it, unless these may overlap.
A place is taken by a schedule: runs that may overlap share that of their schedule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, and_, exists, func, literal, not_, or_, select, text, union_all, update
from sqlalchemy import case as case_of

from models import ScheduledReview, ScheduleExecution, table_of
from reviews.store.executions import Message
from sessionfleet.words import PRIORITIES

AGEING = 60
"""Seconds of waiting that raise a run by one priority."""

_e = table_of(ScheduleExecution)
_s = table_of(ScheduledReview)
_other = _e.alias("other")
_now = func.clock_timestamp()

_LOOK = text("""
    SELECT s.owner_id, e.status = 'queued' AS queued, extract(epoch FROM e.not_before - clock_timestamp()) AS wait,
           pg_advisory_xact_lock(hashtextextended('owner_runs:' || s.owner_id, 0))
    FROM schedule_executions e JOIN scheduled_reviews s USING (schedule_id)
    WHERE e.execution_id = :execution_id
""")
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('owner_runs:' || :owner_id, 0))")


@dataclass(frozen=True, slots=True)
class Looked:
    """Whose run it is, whether it waits, and for how many seconds its start has yet to come."""

    owner_id: str
    queued: bool
    wait: float


def look(db: Connection, execution_id: str) -> Looked | None:
    """The run of a message; claims of its owner's runs wait for each other from here on. None: unknown."""
    row = db.execute(_LOOK, {"execution_id": execution_id}).first()
    return None if row is None else Looked(row.owner_id, row.queued, float(row.wait or 0))


def choice(owner_id: str, execution_id: str, parallelism: int) -> Any:
    """The execution to start now, as a subquery of at most one row."""
    due = and_(_e.c.status == "queued", _e.c.not_before <= _now)
    asked = select(_e.c.execution_id, literal(0).label("place")).where(
        _e.c.execution_id == execution_id, _e.c.kind == "on_demand", due
    )
    best = _waiting(owner_id, parallelism).limit(1).subquery()
    either = union_all(asked, select(best.c.execution_id, literal(1))).subquery()
    return select(either.c.execution_id).order_by(either.c.place).limit(1).scalar_subquery()


def next_ones(db: Connection, owner_id: str, parallelism: int, within: float) -> list[Message]:
    """The owner's runs that could start now, one for each free place, after one has ended or begun in this
    transaction; the outbox sends them ``within`` seconds should the caller not live to do it. A claim that
    still saw the ended run has left its own on the ledger for this to find, because both lock the owner."""
    db.execute(_LOCK, {"owner_id": owner_id})
    free = parallelism - int(db.execute(select(_under_way(owner_id))).scalar_one())
    best = _waiting(owner_id, parallelism).limit(max(free, 1)).subquery()
    statement = (
        update(_e)
        .where(_e.c.execution_id.in_(select(best.c.execution_id)), _e.c.status == "queued")
        .values(publish_at=_now + func.make_interval(0, 0, 0, 0, 0, 0, within))
        .returning(_e.c.execution_id, _e.c.priority)
    )
    return [Message(row.execution_id, row.priority, None) for row in db.execute(statement)]


def _waiting(owner_id: str, parallelism: int) -> Select[Any]:
    """The runs that may start, best first."""
    rank = case_of({name: place for place, name in enumerate(PRIORITIES)}, value=_e.c.priority)
    aged = rank - func.floor(func.extract("epoch", _now - _e.c.not_before) / AGEING)
    before = and_(_other.c.status == "queued", _other.c.nominal_utc < _e.c.nominal_utc)
    in_the_way = _beside(or_(_other.c.status == "running", before))
    scheduled, beside = _e.c.kind == "scheduled", _s.c.overlap == "allow_all"
    joins = and_(scheduled, beside, _beside(_other.c.status == "running"))
    return (
        select(_e.c.execution_id)
        .join(_s, _s.c.schedule_id == _e.c.schedule_id)
        .where(_s.c.owner_id == owner_id, _e.c.status == "queued", _e.c.not_before <= _now)
        .where(or_(not_(scheduled), beside, not_(in_the_way)))
        .where(or_(_under_way(owner_id) < parallelism, joins))
        .order_by(func.greatest(aged, 0), _e.c.not_before, _e.c.nominal_utc, _e.c.execution_id)
    )


def _beside(condition: Any) -> Any:
    """Whether the schedule of a run has another one like that."""
    return exists().where(
        _other.c.schedule_id == _e.c.schedule_id,
        _other.c.execution_id != _e.c.execution_id,
        _other.c.kind != "backfill",
        condition,
    )


def _under_way(owner_id: str) -> Any:
    """How many schedules of the owner have runs under way, as a subquery that stands alone."""
    run, schedule = _e.alias("run"), _s.alias("its_schedule")
    counted = select(func.count(run.c.schedule_id.distinct())).select_from(
        run.join(schedule, schedule.c.schedule_id == run.c.schedule_id)
    )
    return counted.where(schedule.c.owner_id == owner_id, run.c.status == "running").scalar_subquery()


STOP_OTHERS = text("""
    UPDATE schedule_executions old
    SET stop = CASE s.overlap WHEN 'terminate_other' THEN 'terminate' ELSE 'cancel' END
    FROM scheduled_reviews s
    WHERE old.schedule_id = s.schedule_id AND s.overlap IN ('cancel_other', 'terminate_other')
      AND old.status = 'running' AND old.stop IS NULL AND old.kind <> 'backfill'
      AND EXISTS (
        SELECT 1 FROM schedule_executions new
        WHERE new.schedule_id = old.schedule_id AND new.status = 'queued' AND new.kind = 'scheduled'
          AND new.nominal_utc > old.nominal_utc AND new.not_before <= clock_timestamp()
      )
""")
DROP_OTHERS = text("""
    UPDATE schedule_executions old
    SET status = CASE old.attempt WHEN 0 THEN 'skipped' ELSE 'failed' END,
        reason = CASE old.attempt WHEN 0 THEN 'overlap' END,
        publish_at = NULL, ended_at = clock_timestamp()
    FROM scheduled_reviews s
    WHERE old.schedule_id = s.schedule_id AND s.overlap IN ('cancel_other', 'terminate_other')
      AND old.status = 'queued' AND old.kind <> 'backfill'
      AND EXISTS (
        SELECT 1 FROM schedule_executions new
        WHERE new.schedule_id = old.schedule_id AND new.status = 'queued' AND new.kind = 'scheduled'
          AND new.nominal_utc > old.nominal_utc AND new.not_before <= clock_timestamp()
      )
""")


def stop_others(db: Connection) -> int:
    """Under cancel_other and terminate_other: runs that wait become skipped when a later slot is due, or
    failed when they were tried before, and those under way are told to end. How many."""
    return db.execute(DROP_OTHERS).rowcount + db.execute(STOP_OTHERS).rowcount
