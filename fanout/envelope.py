"""The message subscribers get: the stored event's envelope (D-02) and what only the way adds (D-07, R-05)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sessionfleet import jsontext

Envelope = dict[str, Any]

ENDINGS = frozenset(
    {"session.completed", "session.terminated", "session.failed", "session.expired", "session.deleted"}
)
"""Events after which a session has ended; with session.created what the global channel carries."""


def message(
    envelope: Mapping[str, Any], *, stream_id: str, retry_count: int = 0, entity_ids: list[str] | None = None
) -> Envelope:
    """The message of an event, one shape on every channel and in every Stream.

    Beside the envelope it has ``stream_id`` (its entry in the Streams), ``retry_count`` (failed tries to
    publish it) and seed 004's names (R-05): type, sessionId, initiator (who asked, else the actor),
    checkpointId, outcome, summary {entityIds, impact}; null where the event does not know.
    """
    payload: Mapping[str, Any] = envelope["payload"]
    actor = envelope["actor"]
    return {
        **envelope,
        "retry_count": retry_count,
        "stream_id": stream_id,
        "type": envelope["event_name"],
        "sessionId": envelope["session_id"],
        "initiator": payload.get("initiator", actor),
        "checkpointId": payload.get("checkpoint_id", payload.get("checkpointId")),
        "outcome": payload.get("outcome"),
        "summary": {"entityIds": entity_ids or [], "impact": payload.get("impact")},
    }


def encode(message: Mapping[str, Any]) -> str:
    """Compact JSON."""
    return jsontext.encode(message).decode()


def is_global(event_name: str) -> bool:
    """Whether the global channel carries this event: sessions created and ended, nothing else (D-07)."""
    return event_name == "session.created" or event_name in ENDINGS
