"""A run's way through the ledger: claimed, kept by a lease, ended; each step fenced by its attempt."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Interval, cast, func, insert, select, update

from models import ScheduleAttempt, ScheduledReview, ScheduleExecution, table_of
from reviews.store import schedules
from sessionfleet.words import Priority

LEASE = timedelta(seconds=60)
"""How long a run is left alone without a sign of life; each step of it is shorter."""

_e = table_of(ScheduleExecution)
_a = table_of(ScheduleAttempt)
_s = table_of(ScheduledReview)
_now = func.clock_timestamp()

_SEEN = (
    _e.c.execution_id,
    _e.c.schedule_id,
    _e.c.kind,
    _e.c.nominal_utc,
    _e.c.attempt,
    _e.c.session_id,
    _e.c.priority,
    _s.c.owner_id,
    _s.c.account_filter,
    _s.c.max_retries,
    _s.c.retry_delay_minutes,
    _s.c.deleted_at,
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
    started_at: datetime
    """Of this attempt."""

    @property
    def may_retry(self) -> bool:
        """Whether another attempt is allowed after this one (H-10)."""
        return self.attempt <= self.max_retries and self.deleted_at is None


def claim(db: Connection, execution_id: str) -> Run | None:
    """Begin an attempt; None when the run is not queued (a copy of its message, or deleted) or its time
    has not come. The attempt is counted before anything else is done."""
    statement = (
        update(_e)
        .where(
            _e.c.execution_id == execution_id,
            _e.c.status == "queued",
            _e.c.not_before <= _now,
            _s.c.schedule_id == _e.c.schedule_id,
        )
        .values(
            status="running",
            attempt=_e.c.attempt + 1,
            started_at=func.coalesce(_e.c.started_at, _now),
            lease_expires_at=_lease(),
            publish_at=None,
            session_id=None,
            error_message=None,
        )
        .returning(*_SEEN)
    )
    row = db.execute(statement).first()
    if row is None:
        return None
    begun = insert(_a).values(execution_id=execution_id, attempt=row.attempt, status="running", started_at=_now)
    started_at = db.execute(begun.returning(_a.c.started_at)).scalar_one()
    return Run(**row._asdict(), started_at=started_at)


def opened(db: Connection, run: Run, session_id: UUID) -> Run:
    """Note the session of the attempt and renew the lease; the run with it. Raises AttemptOver."""
    _write(db, run, session_id=session_id, lease_expires_at=_lease())
    db.execute(update(_a).where(*_attempt(run)).values(session_id=session_id))
    return replace(run, session_id=session_id)


def succeed(db: Connection, run: Run, result: dict[str, Any], accounts_processed: int) -> None:
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


def lost(db: Connection, limit: int) -> list[Run]:
    """Runs whose worker has not been heard of since their lease ended, locked; a run that another
    transaction holds is passed over."""
    statement = (
        select(*_SEEN, _a.c.started_at)
        .join_from(_e, _s, _s.c.schedule_id == _e.c.schedule_id)
        .join(_a, (_a.c.execution_id == _e.c.execution_id) & (_a.c.attempt == _e.c.attempt))
        .where(_e.c.lease_expires_at <= _now)
        .order_by(_e.c.lease_expires_at)
        .limit(limit)
        .with_for_update(of=_e, skip_locked=True)
    )
    return [Run(**row._asdict()) for row in db.execute(statement)]


def _end(db: Connection, run: Run, error: str | None, *, status: str, **values: Any) -> None:
    if status != "queued":
        values |= {"ended_at": _now, "duration_seconds": func.extract("epoch", _now - run.started_at)}
    _write(db, run, status=status, error_message=error, lease_expires_at=None, **values)
    outcome = "success" if error is None else "failed"
    db.execute(update(_a).where(*_attempt(run)).values(status=outcome, ended_at=_now, error_message=error))
    if status != "queued":
        schedules.count_run(db, run.schedule_id, run.started_at, status)


def _write(db: Connection, run: Run, **values: Any) -> None:
    statement = update(_e).where(
        _e.c.execution_id == run.execution_id, _e.c.attempt == run.attempt, _e.c.status == "running"
    )
    if db.execute(statement.values(**values)).rowcount == 0:
        raise AttemptOver(run.execution_id)


def _lease() -> ColumnElement[Any]:
    return _now + cast(LEASE, Interval)


def _attempt(run: Run) -> tuple[ColumnElement[bool], ...]:
    return (_a.c.execution_id == run.execution_id, _a.c.attempt == run.attempt)
