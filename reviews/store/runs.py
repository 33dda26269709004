"""A run's way through the ledger: claimed, kept by a lease, ended; each step fenced by its attempt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Interval, cast, func, insert, select, update

from models import ScheduleAttempt, ScheduledReview, ScheduleExecution, table_of
from reviews.store import admission, schedules
from sessionfleet.messages.schedule import BUILT_IN
from sessionfleet.words import Priority

LEASE = timedelta(seconds=60)
"""How long a run is left alone without a sign of life; each step of it is shorter."""

_e = table_of(ScheduleExecution)
_a = table_of(ScheduleAttempt)
_s = table_of(ScheduledReview)
_now = func.clock_timestamp()

_SEEN = (
    *(_e.c[name] for name in ("execution_id", "schedule_id", "kind", "nominal_utc", "attempt", "session_id")),
    *(_e.c[name] for name in ("priority", "stop")),
    *(_s.c[name] for name in ("owner_id", "account_filter", "max_retries", "retry_delay_minutes", "deleted_at")),
    *(_s.c[name] for name in ("handler", "handler_queue", "handler_timeout_seconds", "overlap")),
    _s.c.metadata.label("about"),
)


class AttemptOver(Exception):
    """Somebody else has ended this attempt, because its lease had run out: write nothing more."""


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt of an execution with what it needs of its schedule. Only the holder of the current
    ``attempt`` may write."""

    execution_id: str
    schedule_id: str
    kind: str
    nominal_utc: datetime
    attempt: int
    session_id: UUID | None
    priority: Priority
    owner_id: str
    account_filter: dict[str, Any] | None
    max_retries: int
    retry_delay_minutes: int
    deleted_at: datetime | None
    handler: str
    handler_queue: str | None
    handler_timeout_seconds: int
    overlap: str
    about: dict[str, Any]
    """The metadata of the schedule."""
    stop: str | None
    """``cancel`` or ``terminate`` when a later slot wants the run to end."""
    started_at: datetime
    """Of this attempt."""

    @property
    def may_retry(self) -> bool:
        """Whether another attempt is allowed after this one (H-10)."""
        return self.attempt <= self.max_retries and self.deleted_at is None and self.stop is None

    @property
    def lease(self) -> timedelta:
        """How long the run may be silent: its handler's time, or :data:`LEASE`."""
        return LEASE if self.handler == BUILT_IN else timedelta(seconds=self.handler_timeout_seconds)


def claim(db: Connection, owner_id: str, execution_id: str, parallelism: int) -> Run | None:
    """Begin an attempt of that execution if it is on demand, and of the owner's best that waits otherwise
    (:mod:`reviews.store.admission`); None when there is none, or ``parallelism`` runs of the owner are under
    way. The attempt is counted before anything else is done. ``owner_id`` was locked by ``admission.look``.
    """
    chosen = admission.choose(db, owner_id, execution_id, parallelism)
    if chosen is None:
        return None
    statement = (
        update(_e)
        .where(
            _e.c.execution_id == chosen,
            _e.c.status == "queued",
            _s.c.schedule_id == _e.c.schedule_id,
        )
        .values(
            status="running",
            attempt=_e.c.attempt + 1,
            started_at=func.coalesce(_e.c.started_at, _now),
            lease_expires_at=_now + cast(LEASE, Interval),
            publish_at=None,
            session_id=None,
            error_message=None,
            stop=None,
        )
        .returning(*_SEEN)
    )
    row = db.execute(statement).first()
    if row is None:
        return None
    begun = insert(_a).values(execution_id=row.execution_id, attempt=row.attempt, status="running", started_at=_now)
    started_at = db.execute(begun.returning(_a.c.started_at)).scalar_one()
    return Run(**row._asdict(), started_at=started_at)


def held(db: Connection, execution_id: str, attempt: int | None = None) -> Run | None:
    """A run under way, its schedule and its row locked in this order as everywhere; None when it is over, or
    another attempt of it is under way."""
    named = select(_e.c.schedule_id).where(_e.c.execution_id == execution_id).scalar_subquery()
    schedules.hold(db, named)
    statement = _under_way().where(_e.c.execution_id == execution_id)
    if attempt is not None:
        statement = statement.where(_e.c.attempt == attempt)
    row = db.execute(statement.with_for_update(of=_e)).first()
    return None if row is None else Run(**row._asdict())


def opened(db: Connection, run: Run, session_id: UUID) -> Run:
    """Note the session of the attempt and renew the lease; the run with it. Raises AttemptOver."""
    _write(db, run, session_id=session_id, lease_expires_at=_lease(run))
    db.execute(update(_a).where(*_attempt(run)).values(session_id=session_id))
    return replace(run, session_id=session_id)


def renew(db: Connection, run: Run) -> None:
    """Leave the run alone for another lease. Raises AttemptOver."""
    _write(db, run, lease_expires_at=_lease(run))


def succeed(db: Connection, run: Run, result: dict[str, Any], accounts_processed: int | None) -> None:
    """End the run with its result. Raises AttemptOver."""
    _end(db, run, None, status="success", result=result, accounts_processed=accounts_processed)


def fail(db: Connection, run: Run, error: str, wait: timedelta | None) -> None:
    """End the attempt; queued again to start after ``wait``, or failed for good when that is None.
    Raises AttemptOver."""
    if wait is None:
        _end(db, run, error, status="failed")
    else:
        again = _now + cast(wait, Interval)
        _end(db, run, error, status="queued", not_before=again, publish_at=again, publishes=0)


def lost(db: Connection, limit: int) -> list[str]:
    """Executions whose worker has not been heard of since their lease ended."""
    over = _e.c.lease_expires_at <= func.statement_timestamp()
    statement = select(_e.c.execution_id).where(over).order_by(_e.c.lease_expires_at).limit(limit)
    return list(db.execute(statement).scalars())


def is_lost(db: Connection, run: Run) -> bool:
    """Whether the lease of a run that is held is over."""
    statement = select(_e.c.lease_expires_at <= _now).where(_e.c.execution_id == run.execution_id)
    return bool(db.execute(statement).scalar_one())


def to_terminate(db: Connection, limit: int) -> list[str]:
    """Executions under way that are to end at once."""
    statement = select(_e.c.execution_id).where(_e.c.status == "running", _e.c.stop == "terminate")
    return list(db.execute(statement.limit(limit)).scalars())


def _under_way() -> Any:
    return (
        select(*_SEEN, _a.c.started_at)
        .join_from(_e, _s, _s.c.schedule_id == _e.c.schedule_id)
        .join(_a, (_a.c.execution_id == _e.c.execution_id) & (_a.c.attempt == _e.c.attempt))
        .where(_e.c.status == "running")
    )


def _end(db: Connection, run: Run, error: str | None, *, status: str, **values: Any) -> None:
    schedules.hold(db, run.schedule_id)
    if status != "queued":
        values |= {"ended_at": _now, "duration_seconds": func.extract("epoch", _now - run.started_at)}
    _write(db, run, status=status, error_message=error, lease_expires_at=None, **values)
    outcome = "success" if error is None else "failed"
    db.execute(update(_a).where(*_attempt(run)).values(status=outcome, ended_at=_now, error_message=error))
    if status != "queued":
        schedules.count_run(db, run.schedule_id, run.started_at, status, stopped=run.stop is not None)


def _write(db: Connection, run: Run, **values: Any) -> None:
    statement = update(_e).where(
        _e.c.execution_id == run.execution_id, _e.c.attempt == run.attempt, _e.c.status == "running"
    )
    if db.execute(statement.values(**values)).rowcount == 0:
        raise AttemptOver(run.execution_id)


def _lease(run: Run) -> ColumnElement[Any]:
    return _now + cast(run.lease, Interval)


def _attempt(run: Run) -> tuple[ColumnElement[bool], ...]:
    return (_a.c.execution_id == run.execution_id, _a.c.attempt == run.attempt)
