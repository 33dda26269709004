"""Every change leaves its audit row, in its own transaction (row I-03)."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from sessionfleet.errors import FleetError
from sessionfleet.messages import CATALOGUE
from tests.support import RunningFleet
from tests.support.ageing import age, leave

Step = tuple[str, dict[str, Any], list[str]]

STORY: list[Step] = [
    ("session.create", {"user_id": "u", "entity_ids": ["e1"]}, ["session_created", "start"]),
    ("session.start", {"reason": "go"}, ["session_started"]),
    ("session.update", {"model": "m1", "context": {"secret": 1}}, ["session_updated"]),
    ("session.update_context", {"current_batch": 3}, ["session_updated"]),
    ("session.update_metrics", {"metrics": {"api_call_count": 2}}, ["session_metrics"]),
    ("session.append_output", {"content": "out"}, ["output_received"]),
    ("session.append_output", {"content": "err", "stream": "stderr"}, ["error_received"]),
    ("session.emit_event", {"type": "fixed"}, ["fixed"]),
    ("session.touch", {}, ["session_touched"]),
    ("session.extend", {"seconds": 60}, ["session_updated"]),
    ("session.idle", {}, ["session_idle"]),
    ("session.wait_input", {}, ["session_waiting_input"]),
    ("session.pause", {}, ["session_paused"]),
    ("session.resume", {}, ["session_resumed"]),
    ("session.set_status", {"status": "suspended"}, ["session_idle"]),
    ("session.interrupt", {}, ["session_interrupted"]),
    ("session.recover", {}, ["session_recovered"]),
    ("session.crash", {"error_message": "segfault"}, ["session_crashed"]),
    ("session.terminate", {"reason": "maintenance"}, ["session_ended", "session_terminated"]),
    ("session.delete", {}, ["session_deleted"]),
]
ENDS: list[Step] = [
    ("session.complete", {}, ["session_completed", "session_ended"]),
    ("session.fail", {"error": "no"}, ["session_ended", "session_failed"]),
    ("session.expire", {}, ["session_ended", "session_expired"]),
    ("session.delete", {}, ["session_deleted", "session_ended"]),
]

_ROWS = text("""
    SELECT event_type, actor, action, resource, metadata, "timestamp", session_id, xmin::text AS tx
    FROM audit_events WHERE session_id = :id ORDER BY "timestamp", event_type
""")
_EVENTS = text("""
    SELECT seq, created_at, event_name, xmin::text AS tx FROM session_events WHERE session_id = :id ORDER BY seq
""")


def audit(fleet: RunningFleet, session_id: str, task_id: str | None = None) -> list[Any]:
    """The audit rows of a session, or those of one task on it."""
    with fleet.engine.connect() as db:
        rows = db.execute(_ROWS, {"id": session_id}).all()
    return [row for row in rows if task_id is None or row.metadata["task_id"] == task_id]


def run(fleet: RunningFleet, name: str, session_id: str | None, **arguments: Any) -> tuple[Any, str]:
    """The answer of an operation and its task id."""
    if session_id is not None:
        arguments["session_id"] = session_id
    handle = fleet.client.submit(name, actor="ada", **arguments)
    return handle.result(60), handle.task_id


def test_every_operation_leaves_its_rows(fleet: RunningFleet) -> None:
    """AT-I1 for session operations [I-03]: how many, of which type, by whom, and nothing beside them."""
    session_id, total = None, 0
    for name, arguments, types in STORY:
        answer, task_id = run(fleet, name, session_id, **arguments)
        session_id = session_id or str(answer["id"])
        rows = audit(fleet, session_id, task_id)
        assert [row.event_type for row in rows] == types, name
        for row in rows:
            assert (row.actor, row.action, row.resource) == ("ada", name, f"session:{session_id}")
        total += len(types)
    assert session_id is not None
    assert len(audit(fleet, session_id)) == total


@pytest.mark.parametrize("step", ENDS, ids=lambda step: step[0])
def test_every_end_says_that_it_is_one(fleet: RunningFleet, step: Step) -> None:
    """I-03: session_ended beside the type of the transition."""
    name, arguments, types = step
    session_id = str(fleet.call("session.create", status="active")["id"])
    _, task_id = run(fleet, name, session_id, **arguments)
    assert [row.event_type for row in audit(fleet, session_id, task_id)] == types


def test_no_write_on_sessions_is_forgotten_here() -> None:
    """I-03: an operation that is added has to say what it leaves."""
    shown = {name for name, _, _ in STORY + ENDS}
    shown |= {"session.delete_by_user", "session.apply"}  # a batch leaves what its operations leave
    assert shown == {
        name for name, message in CATALOGUE.items() if name.startswith("session.") and message.kind == "write"
    }


def test_a_row_tells_the_move_and_what_changed_but_no_values(fleet: RunningFleet) -> None:
    """I-03: from, to, reason, versions, seq and the names of the fields."""
    session_id = str(fleet.call("session.create", agent_id="a", status="active")["id"])
    _, paused = run(fleet, "session.pause", session_id, reason="lunch")
    _, updated = run(fleet, "session.update", session_id, model="m1", context={"password": "hunter2"})
    [row] = audit(fleet, session_id, paused)
    assert row.metadata == {
        "task_id": paused,
        "seq": 3,
        "from": "active",
        "to": "paused",
        "reason": "lunch",
        "version_from": 1,
        "version_to": 2,
        "updates": ["status"],
    }
    [row] = audit(fleet, session_id, updated)
    assert row.metadata["updates"] == ["context", "model"]
    assert "hunter2" not in str([entry.metadata for entry in audit(fleet, session_id)])


def test_audit_and_events_are_of_one_transaction(fleet: RunningFleet) -> None:
    """I-03 [invariant 2]: each event has one row with its seq, its instant and its transaction."""
    session_id = str(fleet.call("session.create", status="active", entity_ids=["e"])["id"])
    for name, arguments in (("session.append_output", {"content": "x" * 300_000}), ("session.complete", {})):
        run(fleet, name, session_id, **arguments)
    with fleet.engine.connect() as db:
        events = db.execute(_EVENTS, {"id": session_id}).all()
    rows = {row.metadata["seq"]: row for row in audit(fleet, session_id) if "seq" in row.metadata}
    assert [event.seq for event in events] == sorted(rows) == list(range(1, 7))
    for event in events:
        row = rows[event.seq]
        assert (row.timestamp, row.tx) == (event.created_at, event.tx)
        assert row.event_type == event.event_name.replace(".", "_")


def test_what_changes_nothing_leaves_nothing(fleet: RunningFleet) -> None:
    """I-03: refused, repeated, unchanged and reading calls."""
    session_id = str(fleet.call("session.create", status="active", model="m1")["id"])
    key = uuid4().hex
    fleet.call("session.pause", session_id=session_id, idempotency_key=key)
    before = len(audit(fleet, session_id))
    assert fleet.call("session.pause", session_id=session_id, idempotency_key=key)["replayed"] is True
    assert fleet.call("session.pause", session_id=session_id)["changed"] is False
    assert fleet.call("session.update", session_id=session_id, model="m1")["changed"] is False
    for name, arguments in (
        ("session.start", {}),
        ("session.update", {"model": "m2", "expected_version": 99}),
        ("session.emit_event", {"type": "x", "payload": {"big": "x" * 1_048_576}}),
        ("session.pause", {"idempotency_key": key, "reason": "another body"}),
    ):
        with pytest.raises(FleetError):
            fleet.call(name, session_id=session_id, **arguments)
    for name in ("session.get", "session.history", "session.get_events", "session.read_output"):
        fleet.call(name, session_id=session_id)
    assert len(audit(fleet, session_id)) == before


def test_duties_are_audited_as_the_fleet(fleet: RunningFleet) -> None:
    """I-03 [E-04 E-05]: a warning and an expiry are changes like any other; so is deleting all of one user."""
    user = uuid4().hex
    warned, overdue = (str(fleet.call("session.create", user_id=user, timeout_seconds=1800)["id"]) for _ in range(2))
    leave(fleet, 280, warned)
    age(fleet, 1801, overdue)
    fleet.call("maintenance.timeout_warnings")
    fleet.call("maintenance.cleanup_stale")
    [row] = audit(fleet, warned)[1:]
    assert (row.event_type, row.actor, row.action) == (
        "session_timeout_warning",
        "fleet",
        "maintenance.timeout_warnings",
    )
    rows = audit(fleet, overdue)[1:]
    assert [(row.event_type, row.actor, row.action) for row in rows] == [
        ("session_ended", "fleet", "maintenance.cleanup_stale"),
        ("session_expired", "fleet", "maintenance.cleanup_stale"),
    ]
    assert fleet.call("session.delete_by_user", user_id=user, actor="ada")["deleted"] == 2
    last = audit(fleet, overdue)[-1]
    assert (last.event_type, last.actor, last.action) == ("session_deleted", "ada", "session.delete_by_user")
    assert [row.event_type for row in audit(fleet, warned)[2:]] == ["session_deleted", "session_ended"]


def test_commands_are_audited(fleet: RunningFleet) -> None:
    """I-03: a write that is no verb on one session leaves its row too, once per effect."""
    schedule = fleet.call("schedule.create", schedule_type="interval", owner_id="o", interval_minutes=60, actor="ann")
    id_ = schedule["schedule_id"]
    for _ in range(2):
        fleet.call("schedule.pause", schedule_id=id_, actor="bob", idempotency_key=f"pause-{id_}")
    fleet.call("schedule.delete", schedule_id=id_)
    fleet.call("agent.heartbeat", agent_id=f"agent-{id_}")
    with fleet.engine.connect() as db:
        found = text('SELECT event_type, actor, action FROM audit_events WHERE resource = :name ORDER BY "timestamp"')
        rows = [tuple(row) for row in db.execute(found, {"name": f"schedule:{id_}"})]
        agents = db.execute(found, {"name": f"agent:agent-{id_}"}).all()
    assert rows == [
        ("schedule_create", "ann", "schedule.create"),
        ("schedule_pause", "bob", "schedule.pause"),
        ("schedule_delete", None, "schedule.delete"),
    ]
    assert [row.action for row in agents] == ["agent.heartbeat"]
