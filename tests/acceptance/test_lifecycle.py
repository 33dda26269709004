"""The life of a session through real workers (rows A-01, A-05, A-07..A-17, A-20, I-03)."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from sessionfleet.errors import FleetError
from tests.support import RunningFleet
from tests.support.asking import codes, event_names, events, get, new, stored, together
from tests.support.listening import Listener


def is_active(fleet: RunningFleet, session_id: str) -> bool:
    """Whether the list of active sessions has it."""
    return any(item["id"] == session_id for item in fleet.client.iterate("session.list_active", limit=1000))


def history(fleet: RunningFleet, session_id: str, **arguments: Any) -> Any:
    return fleet.call("session.history", session_id=session_id, **arguments)


def test_each_step_shows_in_the_document_and_once_in_the_log(fleet: RunningFleet) -> None:
    """AT-A1 [A-01 A-08 A-11]."""
    session = fleet.call("session.create", query="Fix the modal", agent_id="a1")
    session_id = session["id"]
    assert (session["status"], session["query"], session["state_version"]) == ("initializing", "Fix the modal", 1)
    assert (session["started_at"], session["ended_at"], session["changed"]) == (None, None, True)
    assert is_active(fleet, session_id)

    started = fleet.call("session.start", session_id=session_id, process_id=4711)
    assert (started["status"], started["process_id"], started["state_version"]) == ("active", 4711, 2)
    assert datetime.fromisoformat(started["started_at"]) > datetime.fromisoformat(session["created_at"])

    fleet.call("session.append_output", session_id=session_id, content="hello\n")
    assert get(fleet, session_id)["output_bytes"] == 6

    ended = fleet.call("session.terminate", session_id=session_id)
    assert (ended["status"], ended["end_reason"], ended["query"]) == ("terminated", "user", "Fix the modal")
    assert ended["started_at"] == started["started_at"]
    assert datetime.fromisoformat(ended["ended_at"]).tzinfo is not None
    assert event_names(fleet, session_id) == [
        "session.created",
        "session.started",
        "output.received",
        "session.terminated",
    ]
    assert not is_active(fleet, session_id)
    assert {**get(fleet, session_id), "changed": True, "updates": ["status"]} == ended


def test_a_transition_is_one_transaction_with_one_row_of_each(fleet: RunningFleet) -> None:
    """A-08, I-03: row, transition, event and audit carry the same transaction's mark; none without the others."""
    session_id = new(fleet)["id"]
    fleet.call("session.pause", session_id=session_id, reason="lunch", actor="ann")
    statement = text("""
        SELECT s.xmin::text AS session, e.xmin::text AS event, t.xmin::text AS transition, a.xmin::text AS audit,
               a.event_type, a.actor, a.action, a.resource, a.metadata, a.timestamp = t.at AS same_instant
        FROM sessions s
        JOIN session_events e ON e.session_id = s.id AND e.event_name = 'session.paused'
        JOIN session_transitions t ON t.session_id = s.id AND t.to_status = 'paused'
        JOIN audit_events a ON a.session_id = s.id AND a.event_type = 'session_paused'
        WHERE s.id = CAST(:id AS uuid)
    """)
    with fleet.engine.connect() as db:
        row = db.execute(statement, {"id": session_id}).one()
    assert row.session == row.event == row.transition == row.audit
    assert (row.actor, row.action, row.resource) == ("ann", "session.pause", f"session:{session_id}")
    assert row.metadata["reason"] == "lunch"
    assert row.metadata["task_id"] == history(fleet, session_id)["items"][-1]["task_id"]
    assert row.same_instant


def test_every_change_of_a_life_is_audited(fleet: RunningFleet) -> None:
    """I-03: an audit row in the transaction of every change, also of those that emit no event."""
    session_id = new(fleet)["id"]
    for name, arguments in [
        ("session.update", {"user_id": "u"}),
        ("session.update_metrics", {"metrics": {"api_call_count": 1}}),
        ("session.touch", {}),
        ("session.append_output", {"content": "x"}),
        ("session.emit_event", {"type": "file_modified"}),
        ("session.complete", {}),
        ("session.delete", {}),
    ]:
        before = stored(fleet, session_id)["audited"]
        fleet.call(name, session_id=session_id, actor="ann", **arguments)
        assert stored(fleet, session_id)["audited"] > before, name
    types = text("SELECT event_type FROM audit_events WHERE session_id = CAST(:id AS uuid)")
    with fleet.engine.connect() as db:
        found = set(db.execute(types, {"id": session_id}).scalars())
    assert {"session_created", "session_started", "session_completed", "session_ended", "session_deleted"} <= found


def test_terminate_keeps_its_reason_and_is_sent_once(fleet: RunningFleet) -> None:
    """AT-A4 [A-09]: in reply, row and event; `User terminated` when none is given."""
    session_id, other_id = new(fleet)["id"], new(fleet)["id"]
    with Listener(fleet.cache, f"session:{session_id}") as listener:
        reply = fleet.call("session.terminate", session_id=session_id, reason="maintenance")
        heard = listener.until_seq(f"session:{session_id}", session_id, 3)
    assert reply["status_reason"] == stored(fleet, session_id)["row"]["status_reason"] == "maintenance"
    assert [message["event_name"] for message in heard] == ["session.terminated"]
    assert heard[0]["payload"]["reason"] == "maintenance"
    assert fleet.call("session.terminate", session_id=session_id, reason="again")["changed"] is False
    assert event_names(fleet, session_id).count("session.terminated") == 1
    assert fleet.call("session.terminate", session_id=other_id)["status_reason"] == "User terminated"


def test_an_unknown_session_is_not_found_by_any_operation(fleet: RunningFleet) -> None:
    """AT-A5 [A-12]: reads and writes, by uuid and by external id."""
    for unknown in (str(uuid4()), f"no-{uuid4()}"):
        outcomes = together(
            fleet,
            [
                ("session.get", {"session_id": unknown}),
                ("session.update", {"session_id": unknown, "context": {"a": 1}}),
                ("session.read_output", {"session_id": unknown}),
                ("session.pause", {"session_id": unknown}),
                ("session.append_output", {"session_id": unknown, "content": "x"}),
                ("session.get_events", {"session_id": unknown}),
                ("session.history", {"session_id": unknown}),
                ("session.delete", {"session_id": unknown}),
            ],
        )
        assert set(codes(outcomes)) == {"SESSION_NOT_FOUND"}
        assert {outcome.details["session_id"] for outcome in outcomes} == {unknown}


@pytest.mark.parametrize(
    ("backend", "end", "status"), [("local", "complete", "completed"), ("kubernetes", "crash", "crashed")]
)
def test_spawn_keys_outlive_every_change(fleet: RunningFleet, backend: str, end: str, status: str) -> None:
    """AT-A7 [A-14]: suspended, resumed, ended normally or by an error."""
    keys = {
        "container_id": "c-1",
        "l02_session_id": "l02",
        "pod_name": "p",
        "terminal_id": "t",
        "pid": 12,
        "own": [1],
    }
    session_id = new(fleet, session_type="runtime", runtime_backend=backend, runtime_metadata=keys)["id"]
    assert fleet.call("session.pause", session_id=session_id)["status"] == "paused"
    assert fleet.call("session.resume", session_id=session_id)["status"] == "active"
    fleet.call("session.update", session_id=session_id, runtime_metadata={"previous_state": "paused"})
    fleet.call("session.set_status", session_id=session_id, status="suspended")
    ended = fleet.call(f"session.{end}", session_id=session_id)
    assert (ended["status"], ended["runtime_backend"], ended["session_type"]) == (status, backend, "runtime")
    assert ended["runtime_metadata"] == {**keys, "previous_state": "paused", "process_status": "suspended"}


def test_a_return_from_idle_is_resumed_and_keeps_the_process(fleet: RunningFleet) -> None:
    """AT-A12 [A-11 A-13 A-20]."""
    session_id = new(fleet, process_id=77, actor="ann", status_reason="asked")["id"]
    fleet.call("session.set_status", session_id=session_id, status="idle", reason="quiet", actor="bob")
    back = fleet.call("session.set_status", session_id=session_id, status="active", reason="busy", actor="cid")

    assert back["process_id"] == 77
    assert event_names(fleet, session_id)[1:] == ["session.started", "session.idle", "session.resumed"]
    items = history(fleet, session_id)["items"]
    assert [(row["from"], row["to"], row["reason"], row["actor"]) for row in items] == [
        (None, "active", "asked", "ann"),
        ("active", "idle", "quiet", "bob"),
        ("idle", "active", "busy", "cid"),
    ]
    assert [row["seq"] for row in items] == sorted({row["seq"] for row in items})
    assert all(UUID(row["task_id"]) and datetime.fromisoformat(row["at"]).tzinfo for row in items)


def test_history_is_paged_by_seq(fleet: RunningFleet) -> None:
    """A-20: every transition once, whatever the page."""
    session_id = new(fleet)["id"]
    for _ in range(3):
        fleet.call("session.pause", session_id=session_id)
        fleet.call("session.resume", session_id=session_id)
    whole = history(fleet, session_id)["items"]
    assert [row["to"] for row in whole] == ["active", *["paused", "active"] * 3]
    assert list(fleet.client.iterate("session.history", session_id=session_id, limit=2)) == whole
    assert history(fleet, session_id, limit=7)["next_cursor"] is None


def test_each_status_is_announced_by_its_own_name(fleet: RunningFleet) -> None:
    """A-11: waiting_input, interrupted, recovered, failed."""
    session_id = fleet.call("session.create")["id"]
    announced = {
        "start": "started",
        "wait_input": "waiting_input",
        "interrupt": "interrupted",
        "recover": "recovered",
        "idle": "idle",
        "resume": "resumed",
        "crash": "crashed",
        "fail": "failed",
    }
    for verb in announced:
        fleet.call(f"session.{verb}", session_id=session_id)
    assert event_names(fleet, session_id)[1:] == [f"session.{word}" for word in announced.values()]


def test_complete_with_an_error_is_failed_and_keeps_its_metrics(fleet: RunningFleet) -> None:
    """A-10: error_message and all metrics are in the row."""
    session_id = new(fleet, metrics={"api_call_count": 2})["id"]
    metrics = {"total_duration_ms": 5, "api_call_count": 1}
    ended = fleet.call("session.complete", session_id=session_id, error="out of tokens", metrics=metrics)
    assert (ended["status"], ended["end_reason"], ended["error_message"]) == ("failed", "error", "out of tokens")
    row = stored(fleet, session_id)["row"]
    assert row["metrics"] == {"api_call_count": 3, "total_duration_ms": 5}
    assert row["error_message"] == "out of tokens"


class Boom(Exception):
    pass


def test_a_scope_fails_its_session_when_its_body_raises(fleet: RunningFleet) -> None:
    """AT-A8 [A-17]: with error_message, and the exception reaches the caller."""
    with pytest.raises(Boom), fleet.client.session_scope(agent_id="a1") as session:
        assert session["status"] == "active"
        raise Boom("the body broke")
    document = get(fleet, session["id"])
    assert (document["status"], document["error_message"]) == ("failed", "Boom: the body broke")

    with fleet.client.session_scope() as other:
        fleet.call("session.update_metrics", session_id=other["id"], metrics={"api_call_count": 3})
    document = get(fleet, other["id"])
    assert (document["status"], document["end_reason"]) == ("completed", "completed")
    assert document["metrics"] == {"api_call_count": 3}


def test_words_of_a_process_and_an_unknown_backend(fleet: RunningFleet) -> None:
    """A-13, A-14: the raw word stays, the process id changes only when given; a mainframe is no backend."""
    session_id = new(fleet, process_id=5, runtime_backend=None)["id"]
    moved = fleet.call("session.set_status", session_id=session_id, status="suspended")
    assert (moved["status"], moved["process_id"]) == ("idle", 5)
    moved = fleet.call("session.set_status", session_id=session_id, status="processing", process_id=6)
    assert (moved["status"], moved["process_id"]) == ("active", 6)
    assert moved["runtime_metadata"] == {"process_status": "processing"}
    assert events(fleet, session_id, "session.resumed")[0]["payload"]["updates"] == [
        "status",
        "process_id",
        "runtime_metadata",
    ]
    with pytest.raises(FleetError) as refused:
        fleet.call("session.create", runtime_backend="mainframe")
    assert refused.value.code == "VALIDATION_FAILED"
