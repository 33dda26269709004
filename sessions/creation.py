"""The create verb (rows A-01, A-02, A-05, A-15, A-16)."""

from __future__ import annotations

from typing import Any

from sessionfleet.errors import AgentNotFound, SessionExists
from sessionfleet.messages.create import Create
from sessionfleet.messages.fields import Writable
from sessionfleet.words import OWN_NAME
from sessions import patches
from sessions.change import Change, Context, EventDraft, Patch
from sessions.document import as_read
from sessions.guards import SIZED, check_column, check_session_type, check_size, check_timeout
from sessions.identifiers import random_id
from sessions.policy import Policy
from sessions.record import Record
from sessions.shapes import check_context

_DEFAULTED = frozenset({"timeout_seconds", "max_events"})
_FROM_COMMAND = ("status", "status_reason", *(name for name in Writable.model_fields if name not in _DEFAULTED))


def create(session: Record | None, command: Create, ctx: Context) -> Change:
    """A new session; ``session`` is the holder of the wanted id or external id, if there is one.

    Raises SessionExists (unless ``if_exists="return"``, which answers the holder's document),
    PayloadTooLarge, AgentNotFound, ValidationFailed.
    """
    if session is not None:
        if command.if_exists == "return" and session.deleted_at is None:
            # A read in effect, so an overdue holder shows as what it reads as (E-06).
            return Change(
                answer=lambda holder: {**as_read(holder, ctx.now, ctx.policy), "changed": False, "updates": []}
            )
        raise SessionExists(external_id=session.external_id, session_id=session.id)
    policy = ctx.policy
    check_session_type(command.session_type, policy)
    check_timeout(command.timeout_seconds, policy)
    for field in SIZED:
        if field in command.model_fields_set:
            check_column(field, getattr(command, field), policy)
    if policy.check_agents and command.agent_id is not None and command.agent_id not in ctx.known_agents:
        raise AgentNotFound(agent_id=command.agent_id)
    check_context(command.session_type, command.context, policy.context_schemas)
    record = _record(command, ctx)
    return Change(
        create=record, to=record.status, reason=command.status_reason, events=_events(record, command, policy)
    )


def _record(command: Create, ctx: Context) -> Record:
    id_ = random_id() if command.id is None else str(command.id)
    values: dict[str, Any] = {name: getattr(command, name) for name in _FROM_COMMAND}
    return Record(
        id=id_,
        external_id=command.external_id or _external_id(command, id_),
        account_ids=patches.ordered_set([], command.account_ids, [], None),
        tags=patches.ordered_set([], command.tags, [], None),
        timeout_seconds=command.timeout_seconds or ctx.policy.session_timeout_seconds,
        max_events=command.max_events or ctx.policy.max_events_per_session,
        metrics=patches.add_up({}, command.metrics),
        state_version=1,
        created_at=ctx.now,
        updated_at=ctx.now,
        last_activity=ctx.now,
        started_at=ctx.now if command.status == "active" else None,
        **values,
    )


def _external_id(command: Create, id_: str) -> str:
    if command.orchestrator_id is not None:
        return f"session_{command.orchestrator_id}_{random_id()[-12:]}"
    return OWN_NAME + id_


def _events(record: Record, command: Create, policy: Policy) -> list[EventDraft]:
    payload = {
        "agent_id": record.agent_id,
        "session_type": record.session_type,
        "runtime_backend": record.runtime_backend,
    }
    # With these four there, every later patch can be applied to what the ones before it made of nothing.
    given = {"status", "context", "metadata", "runtime_metadata"}
    given |= command.model_fields_set & {*_FROM_COMMAND, "account_ids", "tags", "timeout_seconds", "max_events"}
    patch: Patch = [{"op": "add", "path": f"/{name}", "value": getattr(record, name)} for name in sorted(given)]
    version = {"version_from": 0, "version_to": 1, "patch": patch}
    events = [EventDraft("session.created", payload, version)]
    if record.status == "active":
        events.append(EventDraft("session.started", state_change=True))
    if command.entity_ids:
        info = {"elementType": "session", "entityIds": command.entity_ids, "operation": "start"}
        check_size("entity_ids", info, policy.max_event_bytes)
        events.append(EventDraft("start", {"change_info": info}, entity_ids=command.entity_ids))
    return events
