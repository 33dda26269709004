"""session.apply: many operations in one message (rows B-13, A-08)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from sessionfleet.errors import ValidationFailed, from_shape
from tests.support import RunningFleet
from tests.support.ageing import age
from tests.support.asking import Document, event_names, events, get, new, stored, together

Step = dict[str, Any]


def step(operation: str, /, **arguments: Any) -> Step:
    return {"name": f"session.{operation}", "arguments": arguments}


def update(session: Document, **context: Any) -> Step:
    return step("update", session_id=session["id"], context=context)


def refused(session: Document) -> Step:
    """An operation that fails on any session of these tests."""
    return step("update", session_id=session["id"], expected_version=99, model="never")


def apply(fleet: RunningFleet, *steps: Step, **options: Any) -> list[Document]:
    answer = fleet.call("session.apply", operations=list(steps), **options)
    assert answer["applied"] == sum(item["ok"] for item in answer["items"])
    assert answer["failed"] == len(answer["items"]) - answer["applied"]
    items: list[Document] = answer["items"]
    return items


def words(items: list[Document]) -> list[str]:
    return ["ok" if item["ok"] else item["error"]["code"] for item in items]


def test_operations_of_one_session_happen_in_order(fleet: RunningFleet) -> None:
    session = new(fleet)
    items = apply(
        fleet,
        update(session, step=1),
        step("pause", session_id=session["external_id"], reason="lunch"),
        step("resume", session_id=session["id"].upper()),
        step("append_output", session_id=session["id"], content="one\n"),
        step("append_output", session_id=session["id"], content="two\n"),
        update(session, step=2),
        actor="batcher",
    )
    assert words(items) == ["ok"] * 6
    assert [items[place]["answer"]["status"] for place in (0, 1, 2, 5)] == ["active", "paused", "active", "active"]
    assert [items[place]["answer"]["chunk_no"] for place in (3, 4)] == [1, 2]
    assert [items[place]["answer"]["state_version"] for place in (0, 1, 2, 5)] == [2, 3, 4, 5]
    found = [event for event in events(fleet, session["id"]) if event["seq"] > session["last_seq"]]
    assert [event["event_name"] for event in found] == [
        "session.updated", "session.paused", "session.resumed", "output.received", "output.received",
        "session.updated",
    ]  # fmt: skip
    assert [event["seq"] for event in found] == list(range(session["last_seq"] + 1, session["last_seq"] + 7))
    assert {event["actor"] for event in found} == {"batcher"}
    assert get(fleet, session["id"])["context"] == {"step": 2}
    assert fleet.call("session.read_output", session_id=session["id"])["chunks"][1]["content"] == "two\n"


def test_each_operation_leaves_its_own_rows_in_one_transaction(fleet: RunningFleet) -> None:
    one, two = new(fleet), new(fleet)
    apply(fleet, update(one, a=1), update(two, a=1), update(one, a=2))
    statement = text("""
        SELECT e.session_id::text AS id, e.seq, e.xid::text AS xid, count(DISTINCT a.event_id) AS audited
        FROM session_events e
        JOIN audit_events a ON a.session_id = e.session_id AND a.metadata->'seq' = to_jsonb(e.seq)
        WHERE e.session_id IN (CAST(:one AS uuid), CAST(:two AS uuid)) AND e.seq > :seen
        GROUP BY e.session_id, e.seq, e.xid
    """)
    with fleet.engine.connect() as db:
        rows = db.execute(statement, {"one": one["id"], "two": two["id"], "seen": one["last_seq"]}).all()
    seen = one["last_seq"]
    assert sorted((row.id, row.seq) for row in rows) == sorted(
        [(one["id"], seen + 1), (one["id"], seen + 2), (two["id"], seen + 1)]
    )
    assert {row.audited for row in rows} == {1}
    assert len({row.xid for row in rows}) == 1


def test_each_operation_for_itself(fleet: RunningFleet) -> None:
    one, two = new(fleet), new(fleet)
    items = apply(
        fleet,
        update(one, a=1),
        refused(one),
        step("touch", session_id="nobody"),
        update(one, b=2),
        update(two, a=1),
        whole="operation",
    )
    assert words(items) == ["ok", "VERSION_CONFLICT", "SESSION_NOT_FOUND", "ok", "ok"]
    assert items[1]["error"]["details"] == {"session_id": one["id"], "expected": 99, "current": 2}
    assert items[2]["error"]["details"] == {"session_id": "nobody"}
    assert get(fleet, one["id"])["context"] == {"a": 1, "b": 2}
    assert get(fleet, two["id"])["context"] == {"a": 1}


def test_a_session_changes_entirely_or_not_at_all(fleet: RunningFleet) -> None:
    """The default: what fails takes its own session's operations with it, before and after it."""
    one, two = new(fleet), new(fleet)
    before = stored(fleet, one["id"])
    items = apply(
        fleet,
        update(one, a=1),
        update(two, a=1),
        refused(one),
        step("pause", session_id=one["external_id"]),
        update(two, b=2),
    )
    assert words(items) == ["NOT_APPLIED", "ok", "VERSION_CONFLICT", "NOT_APPLIED", "ok"]
    assert items[0]["error"]["details"] == {"index": 2, "code": "VERSION_CONFLICT"}
    assert items[3]["error"] == items[0]["error"]
    assert from_shape(items[0]["error"]).http_status == 424
    assert stored(fleet, one["id"]) == before
    assert get(fleet, one["id"])["context"] == {}
    assert get(fleet, two["id"])["context"] == {"a": 1, "b": 2}
    assert event_names(fleet, two["id"])[-2:] == ["session.updated"] * 2


def test_a_batch_happens_entirely_or_not_at_all(fleet: RunningFleet) -> None:
    one, two = new(fleet), new(fleet)
    before = stored(fleet, one["id"]), stored(fleet, two["id"])
    steps = [update(one, a=1), step("create", external_id=f"x-{uuid4()}"), refused(two), update(two, a=1)]
    items = apply(fleet, *steps, whole="batch")
    assert words(items) == ["NOT_APPLIED", "NOT_APPLIED", "VERSION_CONFLICT", "NOT_APPLIED"]
    assert (stored(fleet, one["id"]), stored(fleet, two["id"])) == before
    del steps[2]
    assert words(apply(fleet, *steps, whole="batch")) == ["ok"] * 3


def test_a_session_is_created_and_used_in_one_batch(fleet: RunningFleet) -> None:
    names = [f"made-{uuid4()}" for _ in range(3)]
    steps = [step("create", external_id=name) for name in names]
    steps += [step("start", session_id=name) for name in names]
    steps += [step("update", session_id=name, context={"name": name}) for name in names]
    steps.append(step("update", session_id=names[1], expected_version=99, model="never"))
    items = apply(fleet, *steps)
    assert words(items) == ["ok", "NOT_APPLIED", "ok"] * 3 + ["VERSION_CONFLICT"]
    for name in (names[0], names[2]):
        document = get(fleet, name)
        assert (document["status"], document["context"]) == ("active", {"name": name})
        assert event_names(fleet, name) == ["session.created", "session.started", "session.updated"]
    assert words(apply(fleet, step("touch", session_id=names[1]))) == ["SESSION_NOT_FOUND"]


def test_a_deleted_session_makes_room_for_its_external_id(fleet: RunningFleet) -> None:
    first = new(fleet)
    items = apply(
        fleet,
        step("delete", session_id=first["id"]),
        step("create", external_id=first["external_id"]),
        update({"id": first["external_id"]}, a=1),
    )
    assert words(items) == ["ok"] * 3
    second = get(fleet, first["external_id"])
    assert second["id"] == items[1]["answer"]["id"] != first["id"]
    assert second["context"] == {"a": 1}
    wrong = apply(
        fleet,
        step("delete", session_id=second["id"]),
        step("create", external_id=second["external_id"]),
        step("update", session_id=second["external_id"], expected_version=99),
    )
    assert words(wrong) == ["NOT_APPLIED", "NOT_APPLIED", "VERSION_CONFLICT"]
    assert get(fleet, second["external_id"])["id"] == second["id"]


def test_a_repeated_batch_has_one_effect_and_tries_again_what_failed(fleet: RunningFleet) -> None:
    """B-13: each operation has a key of its own."""
    one, two, late = new(fleet), new(fleet), f"late-{uuid4()}"
    key = str(uuid4())
    steps = [
        step("append_output", session_id=one["id"], content="once\n"),
        step("update_metrics", session_id=two["id"], metrics={"calls": 1}),
        step("touch", session_id=late),
    ]
    call = ("session.apply", {"operations": steps, "idempotency_key": key})
    answers = [answer["items"] for answer in together(fleet, [call] * 8)]
    assert {tuple(words(items)) for items in answers} == {("ok", "ok", "SESSION_NOT_FOUND")}
    assert sorted(items[0]["answer"].get("replayed", False) for items in answers) == [False] + [True] * 7
    new(fleet, external_id=late)
    [again] = together(fleet, [call])
    assert words(again["items"]) == ["ok"] * 3
    assert again["items"][0]["answer"]["replayed"]
    assert "replayed" not in again["items"][2]["answer"]
    assert fleet.call("session.read_output", session_id=one["id"])["next_chunk"] == 1
    assert get(fleet, two["id"])["metrics"] == {"calls": 1}

    steps[0]["arguments"]["content"] = "other\n"
    assert words(apply(fleet, *steps, idempotency_key=key)) == ["IDEMPOTENCY_CONFLICT", "ok", "ok"]


def test_an_operation_may_bring_its_own_key(fleet: RunningFleet) -> None:
    one, two, key = new(fleet), new(fleet), str(uuid4())
    alone = fleet.call("session.update", session_id=one["id"], context={"a": 1}, idempotency_key=key)
    mine = step("update", session_id=one["id"], context={"a": 1}, idempotency_key=key)
    items = apply(fleet, mine, mine, update(two, a=1), refused(one))
    assert words(items) == ["ok", "ok", "ok", "VERSION_CONFLICT"]  # what took effect before is not undone
    assert items[0]["answer"] == items[1]["answer"] == {**alone, "replayed": True}
    twice = step("append_output", session_id=two["id"], content="once\n", idempotency_key=str(uuid4()))
    items = apply(fleet, twice, twice)
    assert items[1]["answer"] == {**items[0]["answer"], "replayed": True}
    other = step("append_output", session_id=one["id"], content="x\n", idempotency_key=key)
    assert words(apply(fleet, other, update(one, b=2))) == ["IDEMPOTENCY_CONFLICT", "NOT_APPLIED"]


@pytest.mark.parametrize("whole", ["operation", "session", "batch"])
def test_an_overdue_session_expires_whatever_else_fails(fleet: RunningFleet, whole: str) -> None:
    """E-06."""
    overdue, other = new(fleet), new(fleet)
    age(fleet, 30 * 86400, overdue["id"])
    items = apply(fleet, update(other, a=1), update(overdue, a=1), update(overdue, a=2), whole=whole)
    assert items[1]["error"]["code"] == "SESSION_EXPIRED"
    assert items[2]["error"]["code"] == ("SESSION_EXPIRED" if whole == "operation" else "NOT_APPLIED")
    assert items[0]["ok"] == (whole != "batch")
    row = stored(fleet, overdue["id"])["row"]
    assert (row["status"], row["context"]) == ("expired", {})
    assert event_names(fleet, overdue["id"])[-1] == "session.expired"


@pytest.mark.parametrize("whole", ["session", "batch"])
def test_a_session_that_its_own_whole_made_overdue_is_as_it_was(fleet: RunningFleet, whole: str) -> None:
    """Nothing of the whole has happened, so the session is not overdue; its events have no gap (invariant 3)."""
    idle = new(fleet, timeout_seconds=3600)
    age(fleet, 600, idle["id"])
    before = stored(fleet, idle["id"])
    shorter = step("update", session_id=idle["id"], timeout_seconds=60)
    assert words(apply(fleet, shorter, update(idle, a=1), whole=whole)) == ["NOT_APPLIED", "SESSION_EXPIRED"]
    assert stored(fleet, idle["id"]) == before
    assert get(fleet, idle["id"])["status"] == "active"
    assert words(apply(fleet, shorter, update(idle, a=1), whole="operation")) == ["ok", "SESSION_EXPIRED"]
    assert [event["seq"] for event in events(fleet, idle["id"])] == [1, 2, 3, 4]


def test_what_does_not_fit_is_named_by_its_place(fleet: RunningFleet) -> None:
    session = new(fleet)
    before = stored(fleet, session["id"])
    steps = [
        update(session, a=1),
        step("update", session_id=session["id"], tags="no list", colour="red"),
        step("fly", session_id=session["id"]),
        step("delete_by_user", user_id="u"),
        step("touch"),
    ]
    with pytest.raises(ValidationFailed) as wrong:
        apply(fleet, *steps)
    assert {found["field"] for found in wrong.value.details["fields"]} == {
        "operations.1.arguments.colour",
        "operations.1.arguments.tags",
        "operations.2.name",
        "operations.3.name",
        "operations.4.arguments.session_id",
    }
    for number in (0, 1001):
        with pytest.raises(ValidationFailed, match="operations"):
            apply(fleet, *[update(session, a=1)] * number)
    with pytest.raises(ValidationFailed, match="expected_version"):
        apply(fleet, update(session, a=1), expected_version=1)
    assert stored(fleet, session["id"]) == before


def test_a_deadline_holds_for_all_that_name_none(fleet: RunningFleet) -> None:
    """E-19."""
    session = new(fleet)
    own = update(session, mine=1)
    own["arguments"]["deadline_at"] = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    items = apply(fleet, update(session, a=1), own, whole="operation", deadline_at="2020-01-01T00:00:00Z")
    assert words(items) == ["DEADLINE_EXCEEDED", "ok"]


def test_1000_operations(fleet: RunningFleet) -> None:
    """On new sessions, ten each, in one transaction."""
    names = [f"many-{uuid4()}" for _ in range(100)]
    steps = [step("create", external_id=name, status="active") for name in names]
    steps += [step("append_output", session_id=name, content=f"{round_}\n") for round_ in range(9) for name in names]
    items = apply(fleet, *steps)
    assert words(items) == ["ok"] * 1000
    assert [item["answer"]["chunk_no"] for item in items[100:]] == [n for n in range(1, 10) for _ in names]
    assert {get(fleet, name)["last_seq"] for name in names[::20]} == {11}
