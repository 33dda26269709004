"""The emit_event verb (rows D-04, D-05, D-16)."""

from __future__ import annotations

from typing import Any

from sessionfleet.messages.events import EmitEvent
from sessions.change import Change, Context, EventDraft
from sessions.guards import check_event_limit, check_size, check_working
from sessions.record import Record


def emit_event(session: Record, command: EmitEvent, ctx: Context) -> Change:
    """Records one event with its change, transition and impact; answers its ``seq``.

    An append: never stale. With ``reset_ttl`` it counts as activity. Raises PayloadTooLarge above
    max_event_bytes and, where event_limit_policy says so, EventLimit beyond the session's max_events.
    """
    check_working(session)
    check_event_limit(session, ctx.policy)
    payload: dict[str, Any] = dict(command.payload)
    for part in ("change_info", "state_transition", "impact"):
        value = getattr(command, part)
        if value is not None:
            payload[part] = value.model_dump(mode="json", by_alias=True, exclude_unset=True)
    check_size("payload", payload, ctx.policy.max_event_bytes)
    entities = command.change_info.entityIds if command.change_info else []
    metadata = {} if command.auto_checkpoint else {"auto_checkpoint": False}
    event = EventDraft(command.type, payload, metadata, entity_ids=entities, publish=command.publish)

    def answer(record: Record) -> dict[str, Any]:
        return {
            "session_id": record.id,
            "seq": record.last_seq,
            "event_name": command.type,
            "state_version": record.state_version,
        }

    return Change(events=[event], activity=command.reset_ttl, answer=answer)
