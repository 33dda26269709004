"""session.get_events in the words of CloudEvents and AG-UI (row D-17)."""

from __future__ import annotations

from typing import Any

import jsonpatch

from sessionfleet.renderings import cloudevent
from tests.support.cloudevents import check
from tests.support.outbox import LocalWorker


def story(worker: LocalWorker, events: int) -> str:
    """A session with a bit of everything, so many events in all; completed."""
    session_id = worker.create(status="active", agent_id="a1", context={"step": 0, "notes": {"a/b": 1}})
    worker.call("session.append_output", session_id=session_id, content="hello\n")
    worker.call("session.append_output", session_id=session_id, content="oops\n", stream="stderr")
    worker.call("session.update_context", session_id=session_id, context={"step": 1, "notes": {"a/b": None}})
    worker.call("session.pause", session_id=session_id, reason="tea", actor="ada\n")
    worker.call("session.resume", session_id=session_id)
    worker.call("session.emit_event", session_id=session_id, type="large", payload={"text": "x" * 70_000})
    for number in range(events - 9):
        worker.emit(session_id, number=number, text="grün ☕")
    worker.call("session.complete", session_id=session_id)
    return session_id


def test_each_of_100_events_is_a_cloudevent(worker: LocalWorker) -> None:
    """AT-D11, last part [D-17]: valid by the schema, in text order of `sequence`, a large one by reference."""
    session_id = story(worker, 100)
    plain = worker.call("session.get_events", session_id=session_id, limit=1000)
    answer = worker.call("session.get_events", session_id=session_id, limit=1000, render="cloudevents")
    events = answer["items"]
    assert len(events) == 100
    for event in events:
        check(event)
    assert events == [cloudevent(one) for one in plain["items"]]
    assert [event["sequence"] for event in events] == sorted(event["sequence"] for event in events)
    [large] = [event for event in events if "dataref" in event]
    assert large["type"] == "large"
    first = worker.call("session.get_events", session_id=session_id, limit=30, render="cloudevents")
    assert (first["items"], first["next_cursor"], first["last_seq"]) == (events[:30], 30, 100)


def test_a_session_reads_as_an_agui_run(worker: LocalWorker) -> None:
    """D-17: its state deltas lead from the snapshot to the document, its output is text."""
    session_id = story(worker, 12)
    events = worker.call("session.get_events", session_id=session_id, render="agui")["items"]
    types = [event["type"] for event in events]
    assert (types[0], types[-1]) == ("RUN_STARTED", "RUN_FINISHED")
    assert types.count("RUN_STARTED") == types.count("RUN_FINISHED") == types.count("STATE_SNAPSHOT") == 1
    texts = [(event["messageId"], event["delta"]) for event in events if event["type"] == "TEXT_MESSAGE_CONTENT"]
    assert texts == [(f"{session_id}-1", "hello\n"), (f"{session_id}-2", "oops\n")]
    [snapshot] = [event["snapshot"] for event in events if event["type"] == "STATE_SNAPSHOT"]
    state: Any = snapshot
    for event in events:
        if event["type"] == "STATE_DELTA":
            state = jsonpatch.apply_patch(state, event["delta"])
    document = worker.call("session.get", session_id=session_id)
    assert {name: document[name] for name in state} == state
    assert state["status"] == "completed"
    assert state["context"] == {"step": 1, "notes": {}}
    assert "CUSTOM" in types
    assert all(isinstance(event["timestamp"], int) for event in events)


def test_a_page_of_agui_events_is_bounded_by_its_output(worker: LocalWorker) -> None:
    """40 chunks of 262,144 bytes are three pages, whatever the limit."""
    session_id = worker.create(status="active")
    worker.call("session.append_output", session_id=session_id, content="x" * 262_144 * 40)
    seen, after, pages = 0, 0, 0
    while after is not None:
        page = worker.call("session.get_events", session_id=session_id, after_seq=after, limit=1000, render="agui")
        seen += sum(event["type"] == "TEXT_MESSAGE_CONTENT" for event in page["items"])
        after, pages = page["next_cursor"], pages + 1
    assert (seen, pages) == (40, 3)
