"""From a decision to rows: the one place where bookkeeping happens (invariants 3 and 6, rows D-01, A-08).

``seq`` is contiguous from 1, ``state_version`` grows by one per state change, ``revision`` with every
write, deadlines follow activity. Pure: the store writes what this returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sessionfleet.jsontext import Encoded
from sessions import deadlines
from sessions.change import Change, Context, EventDraft, Operation
from sessions.identifiers import random_id
from sessions.patches import same
from sessions.record import COLUMNS, Record

Row = dict[str, Any]

UNSEEN = frozenset({"next_check_at", "warned_threshold"})
"""Columns that are no part of the document: writing them alone leaves revision and updated_at."""

_PLACES = {name: place for place, name in enumerate(COLUMNS)}


@dataclass(slots=True)
class Settled:
    """What one or several changes of one session come to, ready to be written."""

    record: Record
    insert: bool = False
    columns: Row = field(default_factory=dict)
    events: list[Row] = field(default_factory=list)
    transitions: list[Row] = field(default_factory=list)
    output: list[Row] = field(default_factory=list)
    audit: list[Row] = field(default_factory=list)
    removed: UUID | None = None

    @property
    def empty(self) -> bool:
        """Nothing to write."""
        return not (self.insert or self.columns or self.events or self.audit)


def settle(session: Record | None, change: Change, operation: Operation, ctx: Context) -> Settled:
    """The rows of one change on one session; the new state is in ``.record``."""
    before = change.create if change.create is not None else session
    if before is None:
        raise ValueError("a change without create needs a session")
    new = dict(change.columns)
    new["state_version"] = before.state_version + (1 if change.state else 0)
    new["last_seq"] = before.last_seq + len(change.events)
    _count_output(before, change, new)
    if change.activity:
        new["last_activity"] = ctx.now
    new |= _deadlines(before, before.changed(new), change, ctx)
    columns = _differences(before, new)
    if change.create is not None or not columns.keys() <= UNSEEN:
        columns["revision"] = before.revision + 1
        columns["updated_at"] = ctx.now
    record = before.changed(columns)
    settled = Settled(record, insert=change.create is not None, columns=columns)
    if change.create is not None:
        settled.columns = dict(record.columns)
    _event_rows(settled, before, change, operation, ctx)
    _output_rows(settled, before, change, ctx)
    if change.to is not None:
        settled.transitions.append(_transition(settled, session, change, operation, ctx))
    if change.remove:
        settled.removed = UUID(record.id)
    return settled


def joined(changes: Sequence[Settled]) -> list[Settled]:
    """Several changes of one session as one: the last state, all rows."""
    found: dict[str, Settled] = {}
    for change in changes:
        first = found.get(change.record.id)
        found[change.record.id] = change if first is None else _join(first, change)
    return list(found.values())


def _join(first: Settled, second: Settled) -> Settled:
    return replace(
        second,
        insert=first.insert,
        columns={**first.columns, **second.columns},
        events=first.events + second.events,
        transitions=first.transitions + second.transitions,
        output=first.output + second.output,
        audit=first.audit + second.audit,
        removed=second.removed or first.removed,
    )


def answer(change: Change, document: Encoded) -> Encoded:
    """What the caller gets unless the verb has an answer of its own: the document with `changed` and `updates`, which
    is stored, and sent, as the same text."""
    changed = bool(change.create or change.columns or change.activity)
    return document.with_fields({"changed": changed, "updates": list(change.updates)})


def _differences(before: Record, new: Row) -> Row:
    """Those of the new values that are not as before, in the order of the table: rows that change the same columns
    are written together."""
    old = before.columns
    names = [name for name, value in new.items() if value != old[name] or not same(value, old[name])]
    names.sort(key=_PLACES.__getitem__)
    return {name: new[name] for name in names}


def _deadlines(before: Record, record: Record, change: Change, ctx: Context) -> Row:
    """What the state ``record`` without them makes of the deadline and of what follows from it."""
    new: Row = {}
    if not record.terminal and "expires_at" not in change.columns:
        due = _due(before, record, change, ctx)
        if due is not None:
            new["expires_at"] = due
            record = record.changed(new)
    if record.warned_threshold is not None and record.expires_at != before.expires_at:
        new["warned_threshold"] = None
        record = record.changed(new)
    check = deadlines.next_check(record, ctx.now, ctx.policy)
    kept = record.next_check_at
    if check != kept and (check is None or kept is None or change.recheck or check < kept):
        new["next_check_at"] = check
    return new


def _due(before: Record, record: Record, change: Change, ctx: Context) -> datetime | None:
    """The new deadline, or None where it stays. An extension outlasts later activity: a deadline moves back only
    with the status or the timeout."""
    moved = record.status != before.status or record.timeout_seconds != before.timeout_seconds
    if change.create is not None or moved:
        return deadlines.deadline(record, ctx.policy)
    if change.activity:
        due = deadlines.deadline(record, ctx.policy)
        if record.expires_at is None or due > record.expires_at:
            return due
    return None


def _count_output(before: Record, change: Change, new: Row) -> None:
    if change.output:
        new["last_chunk"] = before.last_chunk + len(change.output)
        new["output_bytes"] = before.output_bytes + sum(chunk.bytes for chunk in change.output)
        new["output_lines"] = before.output_lines + sum(chunk.lines for chunk in change.output)


def _event_rows(settled: Settled, before: Record, change: Change, operation: Operation, ctx: Context) -> None:
    record = settled.record
    for seq, draft in enumerate(change.events, start=before.last_seq + 1):
        metadata = _metadata(draft, before, change, record)
        settled.events.append(
            {
                "session_id": record.id,
                "seq": seq,
                "created_at": ctx.now,
                "event_id": random_id(),
                "event_name": draft.name,
                "event_type": "session.updated" if draft.state_change else draft.name,
                "actor": ctx.actor,
                "task_id": operation.task_id,
                "payload": _payload(draft, change, record),
                "metadata": metadata,
                "entity_ids": list(draft.entity_ids),
                "publish": draft.publish,
            }
        )
        audit_type = draft.name.replace(".", "_")
        settled.audit.append(_audit(record, audit_type, operation, ctx, {"seq": seq, **_brief(metadata, change)}))
    for entry in change.audit:
        settled.audit.append(_audit(record, entry.event_type, operation, ctx, entry.metadata))


def _payload(draft: EventDraft, change: Change, record: Record) -> Mapping[str, Any]:
    if not draft.state_change:
        return draft.payload
    return {"agent_id": record.agent_id, "status": record.status, "updates": list(change.updates), **draft.payload}


def _metadata(draft: EventDraft, before: Record, change: Change, record: Record) -> Mapping[str, Any]:
    if not draft.state_change or change.create is not None:
        return draft.metadata
    version: Row = {
        "version_from": before.state_version,
        "version_to": record.state_version,
        "patch": change.patch,
    }
    if change.to is not None:
        version |= {"from": before.status, "to": change.to}
    return {**draft.metadata, **version}


def _brief(metadata: Mapping[str, Any], change: Change) -> Row:
    """What an audit row says of an event: the move and the names of what changed, not the values."""
    brief: Row = {key: metadata[key] for key in ("from", "to", "version_from", "version_to") if key in metadata}
    if change.reason is not None:
        brief["reason"] = change.reason
    if change.updates:
        brief["updates"] = list(change.updates)
    return brief


def _audit(record: Record, event_type: str, operation: Operation, ctx: Context, details: Mapping[str, Any]) -> Row:
    return {
        "event_id": random_id(),
        "timestamp": ctx.now,
        "session_id": record.id,
        "event_type": event_type,
        "actor": ctx.actor,
        "action": operation.name,
        "resource": f"session:{record.id}",
        "metadata": {"task_id": operation.task_id, **details},
    }


def _transition(settled: Settled, session: Record | None, change: Change, operation: Operation, ctx: Context) -> Row:
    return {
        "session_id": settled.record.id,
        "seq": settled.events[0]["seq"],
        "from_status": session.status if session is not None else None,
        "to_status": change.to,
        "reason": change.reason,
        "actor": ctx.actor,
        "task_id": operation.task_id,
        "at": ctx.now,
    }


def _output_rows(settled: Settled, before: Record, change: Change, ctx: Context) -> None:
    start_bytes, start_lines = before.output_bytes, before.output_lines
    for offset, chunk in enumerate(change.output, start=1):
        settled.output.append(
            {
                "session_id": settled.record.id,
                "chunk_no": before.last_chunk + offset,
                "stream": chunk.stream,
                "content": chunk.content,
                "bytes": chunk.bytes,
                "start_bytes": start_bytes,
                "start_lines": start_lines,
                "created_at": ctx.now,
            }
        )
        start_bytes += chunk.bytes
        start_lines += chunk.lines
