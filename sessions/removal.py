"""The delete verb (row Q-07): content goes, a tombstone and the audit stay."""

from __future__ import annotations

from typing import Any

from sessionfleet.messages.base import Write
from sessionfleet.words import Status
from sessions.change import AuditDraft, Change, Context, EventDraft
from sessions.guards import check_version
from sessions.record import Record

_WIPED: dict[str, Any] = {
    "status_reason": None,
    "query": None,
    "current_directory": None,
    "error_message": None,
    "checkpoint": None,
    "context": {},
    "metadata": {},
    "runtime_metadata": {},
    "metrics": {},
    "account_ids": [],
    "tags": [],
    "process_id": None,
    "recovery_needed": False,
}


def delete(session: Record, command: Write, ctx: Context) -> Change:
    """Empties the row into a tombstone, frees its external id, ends it as terminated (end_reason
    ``deleted``) unless it has ended already, and emits ``session.deleted``."""
    check_version(session, command)
    columns: dict[str, Any] = {**_WIPED, "deleted_at": ctx.now}
    to: Status | None = None
    if not session.terminal:
        to = "terminated"
        columns |= {"status": to, "end_reason": "deleted", "ended_at": ctx.now}
    payload = {"external_id": session.external_id, "user_id": session.user_id, "agent_id": session.agent_id}

    def answer(record: Record) -> dict[str, Any]:
        return {"deleted": True, "id": record.id, "external_id": record.external_id}

    return Change(
        columns=columns,
        to=to,
        reason="deleted",
        events=[EventDraft("session.deleted", payload)],
        audit=[AuditDraft("session_ended", {"status": to, "reason": "deleted"})] if to else (),
        state=True,
        remove=True,
        answer=answer,
    )
