"""Events as CloudEvents and AG-UI events (row D-17)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import ValidationError

from sessionfleet import Event
from sessionfleet.renderings import DATA_BYTES, agui, agui_text, cloudevent
from tests.support.cloudevents import check

SESSION_ID = "7b0f0f0c-0000-4000-8000-000000000001"
RUN = {"threadId": SESSION_ID, "runId": SESSION_ID}
AT = 1774785600250


def envelope(name: str = "fixed", **values: Any) -> dict[str, Any]:
    return {
        "event_id": "5d0c8a2e-0000-4000-8000-000000000001",
        "event_name": name,
        "event_type": name,
        "aggregate_id": SESSION_ID,
        "session_id": SESSION_ID,
        "seq": 7,
        "timestamp": "2026-03-29T12:00:00.250000+00:00",
        "actor": "ada",
        "payload": {},
        "metadata": {},
        **values,
    }


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def test_a_cloudevent_has_its_attributes() -> None:
    event = cloudevent(envelope(payload={"n": 1}, metadata={"patch": []}))
    check(event)
    assert event == {
        "specversion": "1.0",
        "id": "5d0c8a2e-0000-4000-8000-000000000001",
        "source": f"/sessions/{SESSION_ID}",
        "type": "fixed",
        "subject": SESSION_ID,
        "time": "2026-03-29T12:00:00.250000+00:00",
        "sequence": "00000000000000000007",
        "datacontenttype": "application/json",
        "data": {"actor": "ada", "payload": {"n": 1}, "metadata": {"patch": []}},
    }


def test_sequences_sort_as_text() -> None:
    found = [cloudevent(envelope(seq=seq))["sequence"] for seq in (1, 9, 10, 99, 100, 2**63 - 1)]
    assert found == sorted(found)


@pytest.mark.parametrize("over", [0, 1])
def test_data_above_64_kib_is_named_and_not_sent(over: int) -> None:
    empty = cloudevent(envelope(payload={"text": ""}))["data"]
    room = DATA_BYTES - len(json.dumps(empty, separators=(",", ":"))) + over
    event = cloudevent(envelope(payload={"text": "ü" * (room // 2) + "x" * (room % 2)}))
    check(event)
    assert ("data" in event) is not bool(over)
    assert event.get("dataref") == (
        f"session.get_events?session_id={SESSION_ID}&after_seq=6&limit=1" if over else None
    )


def test_the_check_would_find_a_fault() -> None:
    good = cloudevent(envelope())
    for fault in ({"id": ""}, {"time": "2026-03-29 12:00"}, {"source": "a b"}, {"type": 7}):
        with pytest.raises(ValidationError):
            check(good | fault)
    for fault in ({"specversion": "0.3"}, {"stream_id": "x"}, {"dataref": "x"}, {"subject": "\n"}):
        with pytest.raises(AssertionError):
            check(good | fault)


@given(
    st.dictionaries(st.text(max_size=5), st.recursive(st.none() | st.text(max_size=9), st.lists, max_leaves=4)),
    st.text(max_size=9) | st.none(),
)
def test_whatever_it_carries_it_is_a_cloudevent(payload: dict[str, Any], actor: str | None) -> None:
    check(cloudevent(envelope(payload=payload, actor=actor)))


def test_a_session_is_one_run() -> None:
    shown = {"status": "active", "context": {"a": 1}}
    patch = [{"op": "add", "path": f"/{name}", "value": value} for name, value in shown.items()]
    assert agui(envelope("session.created", metadata={"patch": patch})) == [
        {"type": "RUN_STARTED", **RUN, "timestamp": AT},
        {"type": "STATE_SNAPSHOT", "snapshot": shown, "timestamp": AT},
    ]
    change = [{"op": "replace", "path": "/status", "value": "completed"}]
    done = envelope("session.completed", payload={"reason": "ok"}, metadata={"patch": change})
    assert agui(done) == [
        {"type": "STATE_DELTA", "delta": change, "timestamp": AT},
        {"type": "RUN_FINISHED", **RUN, "result": {"status": "completed", "reason": "ok"}, "timestamp": AT},
    ]
    failed = agui(envelope("session.failed", payload={"reason": "boom"}, metadata={"patch": change}))
    assert kinds(failed) == ["STATE_DELTA", "RUN_ERROR"]
    assert (failed[1]["message"], failed[1]["code"]) == ("boom", "failed")
    assert agui(envelope("session.expired"))[0]["message"] == "the session expired"


def test_changes_are_patches_and_the_rest_is_custom() -> None:
    patch = [{"op": "add", "path": "/context/step", "value": 2}]
    assert kinds(agui(envelope("session.updated", metadata={"patch": patch}))) == ["STATE_DELTA"]
    paused = agui(envelope("session.paused", payload={"status": "paused"}, metadata={"patch": patch}))
    assert kinds(paused) == ["STATE_DELTA", "CUSTOM"]
    assert (paused[1]["name"], paused[1]["value"]) == ("session.paused", {"status": "paused"})
    for name in ("fixed", "session.deleted", "session.timeout_warning", "session.updated", "output.received"):
        assert agui(envelope(name, payload={"n": 1})) == [
            {"type": "CUSTOM", "name": name, "value": {"n": 1}, "timestamp": AT}
        ]


@pytest.mark.parametrize(("stream", "role"), [("stdout", "assistant"), ("stderr", "assistant"), ("input", "user")])
def test_output_is_a_message(stream: str, role: str) -> None:
    chunk = {"chunk_no": 3, "stream": stream, "content": "grün\n", "at": "2026-03-29T12:00:00.250000+00:00"}
    message = {"messageId": f"{SESSION_ID}-3"}
    expected = [
        {"type": "TEXT_MESSAGE_START", **message, "role": role, "timestamp": AT},
        {"type": "TEXT_MESSAGE_CONTENT", **message, "delta": "grün\n", "timestamp": AT},
        {"type": "TEXT_MESSAGE_END", **message, "timestamp": AT},
    ]
    assert agui_text(SESSION_ID, chunk) == expected
    assert agui(envelope("output.received", payload={"chunk_no": 3}), chunk) == expected


def test_an_event_renders_itself_and_a_mark_does_not() -> None:
    stored = envelope(payload={"n": 1})
    assert Event.of(stored).cloudevent() == cloudevent(stored)
    assert Event.of(stored).agui() == agui(stored)
    mark = Event.mark("end", SESSION_ID, 7, reason="closed")
    for render in (mark.cloudevent, mark.agui):
        with pytest.raises(ValueError, match="mark"):
            render()
