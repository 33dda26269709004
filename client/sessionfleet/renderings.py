"""Events in the words of others: CloudEvents 1.0 and AG-UI (D-17). Pure; both ends use it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

Envelope = Mapping[str, Any]
Rendered = dict[str, Any]
Rendering = Literal["cloudevents", "agui"]

DATA_BYTES = 64 * 1024
"""Data above this many bytes of JSON is named by ``dataref`` instead of sent along."""

SEQUENCE_DIGITS = 20

_FINISHED = {"session.completed": "completed", "session.terminated": "terminated"}
_BROKEN = {"session.failed": "failed", "session.expired": "expired"}


def cloudevent(envelope: Envelope) -> Rendered:
    """A CloudEvent in the JSON format.

    ``type`` is the event's exact name, ``subject`` the session, ``sequence`` its zero-padded ``seq``, so
    that text order is the order in the session. ``data`` holds actor, payload and metadata; above
    DATA_BYTES there is ``dataref`` instead, the read that answers the event whole.
    """
    session_id, seq = str(envelope["session_id"]), int(envelope["seq"])
    event: Rendered = {
        "specversion": "1.0",
        "id": str(envelope["event_id"]),
        "source": f"/sessions/{session_id}",
        "type": str(envelope["event_name"]),
        "subject": session_id,
        "time": str(envelope["timestamp"]),
        "sequence": f"{seq:0{SEQUENCE_DIGITS}d}",
        "datacontenttype": "application/json",
    }
    data = {name: envelope.get(name) for name in ("actor", "payload", "metadata")}
    if len(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()) > DATA_BYTES:
        return {**event, "dataref": f"session.get_events?session_id={session_id}&after_seq={seq - 1}&limit=1"}
    return {**event, "data": data}


def agui(envelope: Envelope, chunk: Mapping[str, Any] | None = None) -> list[Rendered]:
    """AG-UI events, one or more, in order. A session is a thread and its life one run.

    ``session.created`` begins the run with a snapshot of the document as created; every change of the
    document is a JSON Patch on it; completed and terminated finish the run, failed and expired are its
    error. Output is a text message if its ``chunk`` {chunk_no, stream, content} is given. Everything
    else is custom, under its exact name. Interrupted and crashed sessions may be recovered, so their run goes
    on; a deletion may follow the end of a run.
    """
    name, payload = str(envelope["event_name"]), envelope.get("payload") or {}
    session_id, timestamp = str(envelope["session_id"]), _milliseconds(str(envelope["timestamp"]))
    patch: list[Rendered] = (envelope.get("metadata") or {}).get("patch") or []
    run = {"threadId": session_id, "runId": session_id}
    if name == "session.created":
        snapshot = {one["path"].removeprefix("/"): one["value"] for one in patch} if patch else dict(payload)
        return _at(timestamp, [{"type": "RUN_STARTED", **run}, {"type": "STATE_SNAPSHOT", "snapshot": snapshot}])
    if chunk is not None:
        return agui_text(session_id, chunk, timestamp)
    events: list[Rendered] = [{"type": "STATE_DELTA", "delta": patch}] if patch else []
    if name in _FINISHED:
        events.append({"type": "RUN_FINISHED", **run, "result": {"status": _FINISHED[name], **payload}})
    elif name in _BROKEN:
        reason = payload.get("reason") or f"the session {_BROKEN[name]}"
        events.append({"type": "RUN_ERROR", "message": str(reason), "code": _BROKEN[name]})
    elif name != "session.updated" or not patch:
        events.append({"type": "CUSTOM", "name": name, "value": dict(payload)})
    return _at(timestamp, events)


def agui_text(session_id: str, chunk: Mapping[str, Any], timestamp: int | None = None) -> list[Rendered]:
    """A chunk of output as one AG-UI text message; what was sent to the session speaks as the user.
    ``timestamp`` is in milliseconds, default: the chunk's ``at``."""
    if timestamp is None:
        timestamp = _milliseconds(str(chunk["at"]))
    message = {"messageId": f"{session_id}-{chunk['chunk_no']}"}
    role = "user" if chunk["stream"] == "input" else "assistant"
    return _at(
        timestamp,
        [
            {"type": "TEXT_MESSAGE_START", **message, "role": role},
            {"type": "TEXT_MESSAGE_CONTENT", **message, "delta": chunk["content"]},
            {"type": "TEXT_MESSAGE_END", **message},
        ],
    )


def _at(timestamp: int, events: Sequence[Rendered]) -> list[Rendered]:
    return [{**event, "timestamp": timestamp} for event in events]


def _milliseconds(instant: str) -> int:
    return int(datetime.fromisoformat(instant).timestamp() * 1000)
