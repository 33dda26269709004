"""One effect per idempotency key (row B-13); killed workers are the subject of test_redelivery.py."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from celery import Celery
from sqlalchemy import text

from sessionfleet.errors import IdempotencyConflict, VersionConflict
from tests.support import RunningFleet
from tests.support.asking import Document, codes, get, new, plain_producer, stored, together


def alike(answers: list[Document]) -> Document:
    """The one answer that all are, beside `replayed`."""
    first = {name: value for name, value in answers[0].items() if name != "replayed"}
    for answer in answers:
        assert {name: value for name, value in answer.items() if name != "replayed"} == first
    return first


def test_50_parallel_uses_of_a_key_have_one_effect(fleet: RunningFleet) -> None:
    """AT-B5 [B-13]: equal answers, all but the first with replayed=true; another body names the first task."""
    session_id, key = new(fleet)["id"], str(uuid4())
    call = {"session_id": session_id, "metrics": {"api_call_count": 1}, "idempotency_key": key}
    answers = together(fleet, [("session.update_metrics", call)] * 50)
    assert alike(answers)["metrics"] == {"api_call_count": 1}
    assert sorted(answer.get("replayed", False) for answer in answers) == [False] + [True] * 49
    assert stored(fleet, session_id)["row"]["metrics"] == {"api_call_count": 1}

    before = stored(fleet, session_id)
    with pytest.raises(IdempotencyConflict) as refused:
        fleet.call("session.update_metrics", **{**call, "metrics": {"api_call_count": 2}})
    with fleet.engine.connect() as db:
        first = db.execute(text("SELECT task_id FROM idempotency_keys WHERE key = :key"), {"key": key}).scalar_one()
    assert refused.value.details == {"idempotency_key": key, "first_task_id": first}
    assert stored(fleet, session_id) == before


def test_50_parallel_creates_with_a_key_make_one_session(fleet: RunningFleet) -> None:
    """AT-B5 [B-13]: where there is no row yet that rivals could wait for."""
    answers = together(fleet, [("session.create", {"idempotency_key": str(uuid4()), "user_id": f"u-{uuid4()}"})] * 50)
    one = alike(answers)
    assert fleet.call("session.count", user_id=one["user_id"])["total"] == 1


def test_the_answer_is_stored_in_the_same_transaction(fleet: RunningFleet) -> None:
    """B-13."""
    key = str(uuid4())
    session_id = fleet.call("session.create", idempotency_key=key)["id"]
    statement = text("""
        SELECT s.xmin = k.xmin AS same, k.expires_at - k.created_at = interval '86400 seconds' AS kept_a_day
        FROM sessions s, idempotency_keys k WHERE s.id = CAST(:id AS uuid) AND k.key = :key
    """)
    with fleet.engine.connect() as db:
        row = db.execute(statement, {"id": session_id, "key": key}).one()
    assert row.same
    assert row.kept_a_day


def test_a_key_belongs_to_one_operation_and_one_body(fleet: RunningFleet) -> None:
    """B-13: the key and the deadline are not part of the body, all else is."""
    session_id, key = new(fleet)["id"], str(uuid4())
    call = {"session_id": session_id, "idempotency_key": key}
    first = fleet.call("session.pause", **call)
    assert fleet.call("session.pause", **call, deadline=60) == {**first, "replayed": True}
    others = [
        ("session.resume", call),
        ("session.pause", {**call, "reason": "x"}),
        ("session.pause", {**call, "actor": "x"}),
        ("session.delete_by_user", {"user_id": "u", "idempotency_key": key}),
    ]
    assert codes(together(fleet, others)) == ["IDEMPOTENCY_CONFLICT"] * len(others)
    assert get(fleet, session_id)["status"] == "paused"


def test_a_refused_call_may_be_repeated_with_its_key(fleet: RunningFleet) -> None:
    """B-13: only effects are remembered, an error changed nothing."""
    session_id, key = new(fleet)["id"], str(uuid4())
    call = {"session_id": session_id, "context": {"a": 1}, "expected_version": 2, "idempotency_key": key}
    with pytest.raises(VersionConflict):
        fleet.call("session.update", **call)
    fleet.call("session.update", session_id=session_id, user_id="u")
    answer = fleet.call("session.update", **call)
    assert (answer["context"], "replayed" in answer) == ({"a": 1}, False)


def test_a_key_outlives_its_session_but_not_its_time(fleet: RunningFleet) -> None:
    """B-13: the answer of a delete comes again; past idempotency_ttl the key is free."""
    session_id, key = new(fleet, user_id=f"u-{uuid4()}")["id"], str(uuid4())
    gone = fleet.call("session.delete", session_id=session_id, idempotency_key=key)
    again = fleet.call("session.delete", session_id=session_id, idempotency_key=key)
    assert again == {**gone, "replayed": True}
    old = text("UPDATE idempotency_keys SET expires_at = now() - interval '1 second' WHERE key = :key")
    with fleet.engine.begin() as db:
        assert db.execute(old, {"key": key}).rowcount == 1
    created = fleet.call("session.create", idempotency_key=key)
    assert "replayed" not in created
    assert fleet.call("session.create", idempotency_key=key)["id"] == created["id"]


def test_other_writes_than_session_verbs_keep_their_answers_too(fleet: RunningFleet) -> None:
    """B-13: all writes."""
    user_id, key = f"u-{uuid4()}", str(uuid4())
    new(fleet, user_id=user_id)
    first = fleet.call("session.delete_by_user", user_id=user_id, idempotency_key=key)
    assert first["deleted"] == 1
    new(fleet, user_id=user_id)
    again = fleet.call("session.delete_by_user", user_id=user_id, idempotency_key=key)
    assert again == {**first, "replayed": True}
    assert fleet.call("session.count", user_id=user_id)["total"] == 1


@pytest.fixture
def producer(fleet: RunningFleet) -> Iterator[Celery]:
    """A plain Celery app, which chooses its task ids itself."""
    with plain_producer(fleet) as app:
        yield app


def test_the_default_key_is_the_task_id(fleet: RunningFleet, producer: Celery) -> None:
    """B-13: a raw producer that repeats its message under the same id has one effect."""
    session_id, task_id = new(fleet)["id"], str(uuid4())
    kwargs = {"session_id": session_id, "content": "once\n"}
    for _ in range(3):
        sent = producer.send_task("session.append_output", kwargs=kwargs, queue="sessions", task_id=task_id)
    assert sent.get(timeout=60)["chunk_no"] == 1
    # First in, first out: when these are answered, the copies before them have been taken too.
    together(fleet, [("session.touch", {"session_id": session_id})] * 10)
    fleet.call("session.append_output", session_id=session_id, content="last\n")
    assert fleet.call("session.read_output", session_id=session_id)["output"] == "once\nlast\n"
