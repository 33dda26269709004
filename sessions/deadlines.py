"""When a session expires and when somebody must look at it next (rows E-01, E-03, E-04, E-08, E-09)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sessionfleet.words import EndReason
from sessions.policy import Policy
from sessions.record import Record

LATEST = datetime(9999, 12, 31, tzinfo=UTC)
"""No deadline is later: a day before the last instant that Python knows, so it is one in every zone."""


def hard_limit(record: Record, policy: Policy) -> datetime | None:
    """The end of the longest life (E-08), or None when max_lifetime_seconds is off."""
    if policy.max_lifetime_seconds == 0:
        return None
    return record.created_at + timedelta(seconds=policy.max_lifetime_seconds)


def capped(record: Record, deadline: datetime, policy: Policy) -> datetime:
    """``deadline``, but never after the hard limit."""
    limit = hard_limit(record, policy)
    return deadline if limit is None else min(deadline, limit)


def idle_seconds(record: Record, policy: Policy) -> int:
    """How long a session may be without activity, by status: its own timeout while it works,
    paused_timeout_seconds while paused, recovery_window_seconds while interrupted or crashed."""
    if record.status == "paused":
        return policy.paused_timeout_seconds
    if record.recoverable:
        return policy.recovery_window_seconds
    return record.timeout_seconds


def deadline(record: Record, policy: Policy) -> datetime:
    """``expires_at`` counted from the last activity, never after the hard limit."""
    return capped(record, record.last_activity + timedelta(seconds=idle_seconds(record, policy)), policy)


def overdue(record: Record, now: datetime, policy: Policy) -> bool:
    """The deadline or the longest life has passed and nobody has acted on it yet (E-06).

    ``expires_at`` knows the hard limit of the settings it was written under; a limit that was
    switched on or shortened since counts here all the same.
    """
    limit = hard_limit(record, policy)
    return record.overdue(now) or (not record.terminal and limit is not None and limit <= now)


def end_reason(record: Record, policy: Policy) -> EndReason:
    """Why a session ends at its deadline: of inactivity, or of the longest life."""
    longest = hard_limit(record, policy)
    if longest is None or (record.expires_at is not None and record.expires_at < longest):
        return "timeout"
    return "hard_limit"


def thresholds_left(record: Record, policy: Policy) -> list[int]:
    """Warning thresholds (seconds before the deadline) not yet used up for the present deadline."""
    if not record.live:
        return []
    used = record.warned_threshold
    return [seconds for seconds in policy.warn_before if used is None or seconds < used]


def next_check(record: Record, now: datetime, policy: Policy) -> datetime | None:
    """The earliest instant at which a duty may have to act; None for a terminal session."""
    if record.terminal or record.expires_at is None:
        return None
    mark = record.expires_at - timedelta(seconds=max(thresholds_left(record, policy), default=0))
    return max(mark, min(now, record.expires_at))
