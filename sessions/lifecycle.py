"""The lifecycle verbs (rows A-06..A-13, E-03): pure decisions on one locked session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sessionfleet.errors import ValidationFailed
from sessionfleet.messages import lifecycle as m
from sessionfleet.words import RECOVERABLE, STATUSES, Status
from sessions import deadlines, patches
from sessions.change import NOTHING, AuditDraft, Change, Context, EventDraft, Patch
from sessions.guards import check_column, check_version, check_working
from sessions.machine import END_REASONS, check_move, event_name
from sessions.record import Record

_BROUGHT = ("process_id", "error_message", "metrics", "runtime_metadata")
"""Columns a caller may change along with the status."""


def move(
    session: Record,
    command: m.Transition,
    ctx: Context,
    to: Status,
    *,
    reason: str | None = None,
    columns: Mapping[str, Any] | None = None,
    payload: Mapping[str, Any] | None = None,
    only_from: frozenset[Status] | None = None,
) -> Change:
    """One move of the state machine; the shape of every lifecycle verb (A-08).

    A stale ``expected_version`` is refused first. Same status: nothing changes, unless ``only_from``
    makes that an error. Else the table decides; the change carries status, reason, ended_at and
    end_reason, one event and its audit rows.
    """
    check_version(session, command)
    if session.status == to and only_from is None:
        return NOTHING
    check_move(session.status, to, only_from=only_from)
    reason = reason if reason is not None else command.reason
    new = dict(columns or {})
    if command.process_id is not None:
        new["process_id"] = command.process_id
    updates = [key for key in _BROUGHT if key in new and not patches.same(getattr(session, key), new[key])]
    for key in updates:
        check_column(key, new[key], ctx.policy)
    # Counters commute and are never in a patch.
    patch: Patch = [{"op": "add", "path": f"/{key}", "value": new[key]} for key in updates if key != "metrics"]
    return moved(session, ctx, to, reason=reason, columns=new, updates=updates, patch=patch, payload=payload)


def moved(
    session: Record,
    ctx: Context,
    to: Status,
    *,
    reason: str | None,
    columns: Mapping[str, Any],
    updates: Sequence[str] = (),
    patch: Patch | None = None,
    payload: Mapping[str, Any] | None = None,
) -> Change:
    """The change of a move that was checked: status and what it brings along, one event, audit."""
    ends = to in END_REASONS
    status: Patch = [{"op": "replace", "path": "/status", "value": to}]
    if reason != session.status_reason:
        status.append({"op": "add", "path": "/status_reason", "value": reason})
    details = {**({"reason": reason} if reason is not None else {}), **(payload or {})}
    return Change(
        columns={"status": to, "status_reason": reason, **entering(session, to, ctx), **columns},
        to=to,
        reason=reason,
        updates=["status", *updates],
        patch=[*status, *(patch or [])],
        events=[
            EventDraft(event_name(session.status, to, session.started_at is not None), details, state_change=True)
        ],
        audit=[AuditDraft("session_ended", {"status": to, "reason": reason})] if ends else (),
        state=True,
        activity=True,
    )


def entering(session: Record, to: Status, ctx: Context) -> dict[str, Any]:
    """The columns a status brings along, whichever verb leads there."""
    if to in END_REASONS:
        return {"end_reason": END_REASONS[to], "ended_at": ctx.now, "recovery_needed": False}
    if to in ("interrupted", "crashed"):
        return {"recovery_needed": True, "recovery_type": "crash" if to == "crashed" else "manual"}
    columns: dict[str, Any] = {}
    if to == "active" and session.started_at is None:
        columns["started_at"] = ctx.now
    if session.recoverable:
        columns["recovery_needed"] = False
        columns["recovery_count"] = session.recovery_count + 1
        columns["recovered_at"] = ctx.now
        columns["lease_epoch"] = session.lease_epoch + 1
    return columns


def start(session: Record, command: m.Start, ctx: Context) -> Change:
    """initializing -> active."""
    return move(session, command, ctx, "active", only_from=frozenset({"initializing"}))


def pause(session: Record, command: m.Pause, ctx: Context) -> Change:
    """A working session -> paused."""
    return move(session, command, ctx, "paused")


def resume(session: Record, command: m.Resume, ctx: Context) -> Change:
    """paused or idle -> active."""
    return move(session, command, ctx, "active", only_from=frozenset({"paused", "idle"}))


def idle(session: Record, command: m.Idle, ctx: Context) -> Change:
    """active or waiting_input -> idle."""
    return move(session, command, ctx, "idle")


def wait_input(session: Record, command: m.WaitInput, ctx: Context) -> Change:
    """active or idle -> waiting_input."""
    return move(session, command, ctx, "waiting_input")


def interrupt(session: Record, command: m.Interrupt, ctx: Context) -> Change:
    """Any live session -> interrupted, recoverable."""
    return move(session, command, ctx, "interrupted", columns={"recovery_type": command.recovery_type})


def crash(session: Record, command: m.Crash, ctx: Context) -> Change:
    """Any live session -> crashed, recoverable."""
    columns: dict[str, Any] = {"recovery_type": command.recovery_type}
    if command.error_message is not None:
        columns["error_message"] = command.error_message
    return move(session, command, ctx, "crashed", columns=columns)


def recover(session: Record, command: m.Recover, ctx: Context) -> Change:
    """interrupted or crashed -> active, under a new lease epoch."""
    return move(session, command, ctx, "active", only_from=RECOVERABLE)


def complete(session: Record, command: m.Complete, ctx: Context) -> Change:
    """Ends as completed, or as failed when an error is given (A-10)."""
    columns = _result(session, command.error, command.metrics)
    return move(session, command, ctx, "completed" if command.error is None else "failed", columns=columns)


def terminate(session: Record, command: m.Terminate, ctx: Context) -> Change:
    """Ends by a user's wish (A-09)."""
    return move(session, command, ctx, "terminated")


def fail(session: Record, command: m.Fail, ctx: Context) -> Change:
    """Ends as failed."""
    return move(session, command, ctx, "failed", columns=_result(session, command.error, command.metrics))


def expire(session: Record, command: m.Expire, ctx: Context) -> Change:
    """Ends as expired at a caller's wish."""
    return move(session, command, ctx, "expired")


def _result(session: Record, error: str | None, metrics: dict[str, Any] | None) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    if error is not None:
        columns["error_message"] = error
    if metrics:
        columns["metrics"] = patches.add_up(session.metrics, metrics)
    return columns


def status_of(word: str, field: str = "status") -> Status:
    """The status a word means: one of the eleven in any case, or a process word (A-13)."""
    found = m.PROCESS_WORDS.get(word.lower(), word.lower())
    for status in STATUSES:
        if found == status:
            return status
    known = ", ".join([*STATUSES, *m.PROCESS_WORDS])
    raise ValidationFailed.of(field, f"{word!r} is not a status; known are {known}")


def process_word(word: str | None) -> dict[str, Any]:
    """What runtime_metadata keeps of the word for a status: a process word as it was given (A-13)."""
    return {"process_status": word} if word is not None and word.lower() in m.PROCESS_WORDS else {}


def set_status(session: Record, command: m.SetStatus, ctx: Context) -> Change:
    """Any move of the table by its target; a process word stays readable in runtime_metadata."""
    to = status_of(command.status)
    columns: dict[str, Any] = {}
    extra = {**(command.runtime_metadata or {}), **process_word(command.status)}
    if extra and session.status != to:
        columns["runtime_metadata"], _ = patches.apply("merge", "runtime_metadata", session.runtime_metadata, extra)
    if command.error_message is not None:
        columns["error_message"] = command.error_message
    return move(session, command, ctx, to, columns=columns)


def touch(session: Record, command: m.Touch, ctx: Context) -> Change:
    """Renews the deadline; not a state change (B-02), so it is never stale."""
    check_working(session)
    return Change(activity=True, audit=[AuditDraft("session_touched")])


def extend(session: Record, command: m.Extend, ctx: Context) -> Change:
    """Moves the deadline later by the given seconds, never past the hard limit. Raises ValidationFailed for one that
    would be past :data:`sessions.deadlines.LATEST`."""
    check_working(session)
    check_version(session, command)
    now_at, more = session.expires_at or ctx.now, timedelta(seconds=command.seconds)
    if more > deadlines.LATEST - now_at:
        raise ValidationFailed.of("seconds", f"no deadline is after {deadlines.LATEST.isoformat()}")
    expires_at = deadlines.capped(session, now_at + more, ctx.policy)
    if expires_at == session.expires_at:
        return NOTHING
    payload = {"expires_at": expires_at.isoformat(), "seconds": command.seconds}
    return Change(
        columns={"expires_at": expires_at},
        updates=["expires_at"],
        events=[EventDraft("session.updated", payload, state_change=True)],
        state=True,
    )
