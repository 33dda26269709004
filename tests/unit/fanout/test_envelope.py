from __future__ import annotations

import json
from typing import Any

import pytest

from fanout.envelope import encode, is_global, message


def envelope(**values: Any) -> dict[str, Any]:
    return {
        "event_id": "e-1",
        "event_name": "session.paused",
        "session_id": "s-1",
        "seq": 3,
        "actor": "agent-1",
        "payload": {},
        "retry_count": 0,
        **values,
    }


def test_a_message_is_the_envelope_and_what_the_way_adds() -> None:
    stored = envelope()
    sent = message(stored, stream_id="5-7", retry_count=2)
    assert {key: sent[key] for key in stored if key != "retry_count"} == {
        key: value for key, value in stored.items() if key != "retry_count"
    }
    assert (sent["stream_id"], sent["retry_count"]) == ("5-7", 2)


def test_names_of_seed_004_are_null_where_the_event_does_not_know() -> None:
    sent = message(envelope(actor=None), stream_id="5-7")
    assert {key: sent[key] for key in ("type", "sessionId", "initiator", "actor", "checkpointId", "outcome")} == {
        "type": "session.paused",
        "sessionId": "s-1",
        "initiator": None,
        "actor": None,
        "checkpointId": None,
        "outcome": None,
    }
    assert sent["summary"] == {"entityIds": [], "impact": None}


def test_names_of_seed_004_come_from_the_payload() -> None:
    impact = {"severity": "high"}
    payload = {"initiator": "u-1", "checkpoint_id": "c-1", "outcome": "broken", "impact": impact}
    sent = message(envelope(payload=payload), stream_id="5-7", entity_ids=["a.ts"])
    assert (sent["initiator"], sent["actor"]) == ("u-1", "agent-1")
    assert (sent["checkpointId"], sent["outcome"]) == ("c-1", "broken")
    assert sent["summary"] == {"entityIds": ["a.ts"], "impact": impact}


def test_json_is_compact_and_keeps_unicode() -> None:
    sent = message(envelope(payload={"text": "größer 🚀"}), stream_id="5-7")
    text = encode(sent)
    assert json.loads(text) == sent
    assert "größer 🚀" in text
    assert ": " not in text


@pytest.mark.parametrize(
    ("name", "carried"),
    [
        ("session.created", True),
        ("session.completed", True),
        ("session.terminated", True),
        ("session.failed", True),
        ("session.expired", True),
        ("session.deleted", True),
        ("session.paused", False),
        ("session.updated", False),
        ("output.received", False),
    ],
)
def test_the_global_channel_carries_created_and_ended_only(name: str, carried: bool) -> None:
    assert is_global(name) is carried
