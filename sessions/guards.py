"""Checks that verbs share: versions, deadlines, ended sessions, sizes."""

from __future__ import annotations

from typing import Any

from sessionfleet.errors import (
    CheckpointTooLarge,
    EventLimit,
    InvalidTransition,
    PayloadTooLarge,
    SessionExpired,
    ValidationFailed,
    VersionConflict,
)
from sessionfleet.jsontext import encode
from sessionfleet.messages.base import Write
from sessionfleet.words import SESSION_TYPES
from sessions.machine import MOVES
from sessions.policy import Policy
from sessions.record import Record


def expired(session: Record) -> SessionExpired:
    """The typed refusal of a write on an expired session."""
    at = session.expires_at.isoformat() if session.expires_at else None
    return SessionExpired(session_id=session.id, expires_at=at)


def check_version(session: Record, command: Write) -> None:
    """Raise VersionConflict unless ``expected_version`` is absent or the present one (B-02)."""
    expected = command.expected_version
    if expected is not None and expected != session.state_version:
        raise VersionConflict(session_id=session.id, expected=expected, current=session.state_version)


def check_writable(session: Record) -> None:
    """Data of an ended session may still be corrected, but an expired one refuses every write."""
    if session.status == "expired":
        raise expired(session)


def check_working(session: Record) -> None:
    """Activity (touch, extend, output, events) needs a session that has not ended."""
    check_writable(session)
    if session.terminal:
        message = f"The session has ended as {session.status}."
        raise InvalidTransition.of(session.status, session.status, MOVES[session.status], message)


def check_event_limit(session: Record, policy: Policy) -> None:
    """With event_limit_policy ``reject``, raise EventLimit once the session has max_events events (D-16)."""
    if policy.event_limit_policy == "reject" and session.last_seq >= session.max_events:
        raise EventLimit(session_id=session.id, limit=session.max_events)


def json_size(value: Any) -> int:
    """Bytes of ``value`` as compact UTF-8 JSON, the measure of all limits (B-08)."""
    return len(encode(value))


def check_size(field: str, value: Any, limit: int) -> None:
    """Raise PayloadTooLarge with size and limit when ``value`` is bigger than ``limit`` bytes."""
    size = json_size(value)
    if size > limit:
        kind = CheckpointTooLarge if field == "checkpoint" else PayloadTooLarge
        raise kind(field=field, size=size, limit=limit)


SIZED = {
    "context": "max_context_bytes",
    "metadata": "max_metadata_bytes",
    "runtime_metadata": "max_metadata_bytes",
    "metrics": "max_metadata_bytes",
    "checkpoint": "max_checkpoint_bytes",
}
"""Columns with a size limit, and the policy that is the limit in bytes."""


def check_column(field: str, value: Any, policy: Policy) -> None:
    """As :func:`check_size`, of a column; most have no limit."""
    if field in SIZED and value is not None:
        check_size(field, value, getattr(policy, SIZED[field]))


def check_session_type(session_type: str, policy: Policy) -> None:
    """With strict_session_types on, only the known words (A-15)."""
    if policy.strict_session_types and session_type not in SESSION_TYPES:
        raise ValidationFailed.of("session_type", f"must be one of {', '.join(SESSION_TYPES)}")


def check_timeout(timeout_seconds: int | None, policy: Policy) -> None:
    """The lower bound of E-01 depends on the environment, so it is checked here."""
    if timeout_seconds is not None and timeout_seconds < policy.min_timeout_seconds:
        raise ValidationFailed.of("timeout_seconds", f"must be at least {policy.min_timeout_seconds}")
