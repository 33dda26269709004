"""Waiting operations of many callers run as one transaction, each with its own answer, error, key and ``seq``
(rows A-08, A-19, B-13, P-11). Workers killed in the middle of it: ``tests/chaos/test_together.py``.

A delivery is cut where collecting takes more than 10 ms, so on a busy machine a batch may become two or three: these
tests ask for few transactions, not for one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import Celery
from celery.exceptions import TaskRevokedError
from sqlalchemy import text

from broker.names import DEATHS
from sessionfleet.errors import FleetError, from_shape
from sessions.dead_letters import count_delivery
from tests.support import RunningFleet, eventually
from tests.support.agreement import CHECKS
from tests.support.asking import Document, codes, events, get, new, plain_producer, stored
from tests.support.batching import at_once, held, outcomes, transactions
from tests.support.crowd import hold
from tests.support.letters import letters
from tests.support.private import private_fleets

ENDED = ["completed", "failed", "terminated", "expired"]


@pytest.fixture(scope="module")
def single() -> Iterator[RunningFleet]:
    """A fleet with one sessions worker, which takes all that waits."""
    with private_fleets() as make:
        yield make(sessions=1, maintenance=1, relay=1)


@pytest.fixture
def producer(single: RunningFleet) -> Iterator[Celery]:
    """A service without our client."""
    with plain_producer(single) as app:
        yield app


def update(session: Document, **arguments: Any) -> tuple[str, Document]:
    return "session.update", {"session_id": session["id"], **arguments}


def note(session: Document, content: str, **arguments: Any) -> tuple[str, Document]:
    return "session.append_output", {"session_id": session["id"], "content": content, **arguments}


def parts(fleet: RunningFleet, sessions: list[Document]) -> list[Document]:
    """Their metadata in PostgreSQL."""
    with fleet.engine.connect() as db:
        found = {row.id: row.metadata for row in db.execute(text("SELECT id::text, metadata FROM sessions"))}
    return [found[session["id"]] for session in sessions]


def check_rows(fleet: RunningFleet, owner: str) -> None:
    """All that tables say of an owner's sessions agrees."""
    with fleet.engine.connect() as db:
        for rule, statement in CHECKS.items():
            wanted = {"mark": owner} | ({"terminal": ENDED} if ":terminal" in statement else {})
            assert db.execute(text(statement), wanted).all() == [], rule


def tasks_of_events(fleet: RunningFleet, session: Document) -> list[str]:
    """Who wrote the events after this document, in the order of ``seq``."""
    statement = text("SELECT task_id FROM session_events WHERE session_id = :id AND seq > :seq ORDER BY seq")
    with fleet.engine.connect() as db:
        return list(db.execute(statement, {"id": session["id"], "seq": session["last_seq"]}).scalars())


def test_operations_of_many_sessions_share_transactions(single: RunningFleet) -> None:
    """A-08, A-19, B-13: row, event, audit and stored answer of each in one transaction, and few of those; answers are
    not mixed up."""
    owner = f"o-{uuid4()}"
    sessions = [new(single, owner_id=owner) for _ in range(30)]
    [worker] = single.of("sessions")
    read = len(worker.log_text())
    handles, answers = at_once(single, [update(one, context={"n": n}) for n, one in enumerate(sessions)])
    assert [(answer["id"], answer["context"]) for answer in answers] == [
        (one["id"], {"n": n}) for n, one in enumerate(sessions)
    ]
    written = transactions(single, handles)
    assert set(written) == {handle.task_id for handle in handles}
    assert len(set(written.values())) <= 6, "thirty operations"
    statement = text("""
        SELECT count(*) FROM session_events e
        JOIN sessions s ON s.id = e.session_id AND s.xmin::text = (e.xid::text::bigint % 4294967296)::text
        JOIN idempotency_keys k ON k.task_id = e.task_id AND k.xmin = s.xmin
        JOIN audit_events a ON a.session_id = s.id AND a.metadata ->> 'task_id' = e.task_id AND a.xmin = s.xmin
        WHERE e.task_id = ANY (:tasks)
    """)
    with single.engine.connect() as db:
        assert db.execute(statement, {"tasks": list(written)}).scalar_one() == len(handles)
    check_rows(single, owner)
    eventually(lambda: "tasks together, 0 of them failed" in worker.log_text()[read:])  # said after the answers


def test_one_that_fails_changes_nothing_of_the_others(single: RunningFleet, producer: Celery) -> None:
    """A-06, A-12, B-02, R-07: each of them gets its own typed error, the others their answers."""
    good = [new(single) for _ in range(12)]
    active, stale = new(single), new(single)
    before = stored(single, active["id"]), stored(single, stale["id"])
    wrong = [
        ("session.touch", {"session_id": str(uuid4())}),
        ("session.resume", {"session_id": active["id"]}),
        update(stale, expected_version=99, model="never"),
        ("session.complete", {"session_id": "no such name"}),
    ]
    calls = [call for place, bad in enumerate(wrong) for call in (*map(update_of, good[place * 3 :][:3]), bad)]
    with held(single):
        handles = single.client.submit_many(calls[:8])
        refused = producer.send_task("session.update", kwargs={"colour": "red"}, queue="sessions", priority=6)
        unread = producer.send_task(
            "session.update", kwargs={"session_id": active["id"], "tags": 7}, queue="sessions", priority=6,
            ignore_result=True,
        )  # fmt: skip
        handles += single.client.submit_many(calls[8:])
    answers = outcomes(handles)
    assert codes(answers) == ["ok"] * 3 + ["SESSION_NOT_FOUND"] + ["ok"] * 3 + ["INVALID_TRANSITION"] + ["ok"] * 3 + [
        "VERSION_CONFLICT"
    ] + ["ok"] * 3 + ["SESSION_NOT_FOUND"]
    assert answers[3].details == {"session_id": wrong[0][1]["session_id"]}
    assert answers[7].details["from"] == "active"
    assert answers[11].details["current"] == stale["state_version"]
    with pytest.raises(Exception, match="VALIDATION_FAILED") as caught:
        refused.get(timeout=60)
    assert from_shape(caught.value.args[0]).details["fields"][0]["field"] == "session_id"
    assert (stored(single, active["id"]), stored(single, stale["id"])) == before
    assert all(get(single, one["id"])["metadata"] == {"touched": one["id"]} for one in good)
    # Nobody waited for that one: by itself it became a dead letter.
    eventually(lambda: unread.id in [letter["task_id"] for letter in letters(single)])
    written = transactions(single, handles)
    assert len(written) == len(good)
    assert len(set(written.values())) <= 6


def update_of(session: Document) -> tuple[str, Document]:
    return update(session, metadata={"touched": session["id"]})


def test_operations_of_one_session_keep_their_order(single: RunningFleet) -> None:
    """D-02, C-01: two of one session and ten of another, in the order in which they waited; no gap in ``seq``."""
    owner = f"o-{uuid4()}"
    two, ten = new(single, owner_id=owner), new(single, owner_id=owner)
    others = [new(single, owner_id=owner) for _ in range(5)]
    calls = [note(ten, f"{n}\n") for n in range(9)]
    calls[2:2] = [note(two, "first\n"), update(others[0], context={"n": 0})]
    calls[7:7] = [update(one, context={"n": 1}) for one in others]
    calls += [update(ten, context={"last": True}), note(two, "second\n")]
    handles, answers = at_once(single, calls)
    assert codes(answers) == ["ok"] * len(calls)
    of_ten = [place for place, call in enumerate(calls) if call[1]["session_id"] == ten["id"]]
    assert [answers[place]["chunk_no"] for place in of_ten[:-1]] == list(range(1, 10))
    for session, count in ((ten, 10), (two, 2)):
        found = [one for one in events(single, session["id"]) if one["seq"] > session["last_seq"]]
        assert [one["seq"] for one in found] == list(range(session["last_seq"] + 1, session["last_seq"] + 1 + count))
        sent = zip(handles, calls, strict=True)
        its_tasks = [handle.task_id for handle, (_, call) in sent if call["session_id"] == session["id"]]
        assert tasks_of_events(single, session) == its_tasks
    assert single.call("session.read_output", session_id=ten["id"])["output"] == "".join(f"{n}\n" for n in range(9))
    assert single.call("session.read_output", session_id=two["id"])["output"] == "first\nsecond\n"
    assert get(single, ten["id"])["context"] == {"last": True}
    assert len(set(transactions(single, handles).values())) <= 6
    check_rows(single, owner)


def test_a_life_in_one_batch(single: RunningFleet) -> None:
    """A-06, A-08: create, moves, a refused move and the end of one session, waiting together."""
    name = f"life-{uuid4()}"
    owner = f"o-{uuid4()}"
    verbs = ["start", "pause", "pause", "resume", "complete", "touch"]
    calls: list[tuple[str, Document]] = [("session.create", {"external_id": name, "owner_id": owner})]
    calls += [(f"session.{verb}", {"session_id": name}) for verb in verbs]
    handles, answers = at_once(single, calls)
    assert codes(answers) == ["ok"] * 6 + ["INVALID_TRANSITION"]
    given = [answer for answer in answers if not isinstance(answer, FleetError)]
    assert [answer["status"] for answer in given] == [
        "initializing", "active", "paused", "paused", "active", "completed",
    ]  # fmt: skip
    assert [answer["changed"] for answer in given] == [True, True, True, False, True, True]
    document = get(single, name)
    assert (document["status"], document["last_seq"]) == ("completed", 5)
    assert len(set(transactions(single, handles).values())) <= 3
    check_rows(single, owner)


def test_one_key_twice_in_a_batch(single: RunningFleet) -> None:
    """B-13: one effect, the second is the stored answer; with another body it is a conflict that names the first."""
    session, other, key = new(single), new(single), str(uuid4())
    handles, answers = at_once(
        single,
        [
            note(session, "once\n", idempotency_key=key),
            update(other, context={"n": 1}),
            note(session, "once\n", idempotency_key=key),
            note(session, "twice\n", idempotency_key=key),
            ("session.touch", {"session_id": session["id"], "idempotency_key": key}),
        ],
    )
    assert codes(answers) == ["ok", "ok", "ok", "IDEMPOTENCY_CONFLICT", "IDEMPOTENCY_CONFLICT"]
    assert answers[2] == {**answers[0], "replayed": True}
    assert {one.details["first_task_id"] for one in answers[3:]} == {handles[0].task_id}
    assert single.call("session.read_output", session_id=session["id"])["output"] == "once\n"
    assert transactions(single, [handles[2]]) == {}


def test_a_refused_one_leaves_its_key_to_the_next(single: RunningFleet) -> None:
    """B-13: only effects are remembered, also within one transaction."""
    session, key = new(single), str(uuid4())
    call = {"context": {"a": 1}, "expected_version": 2, "idempotency_key": key}
    _, answers = at_once(single, [update(session, **call), update(session, user_id="u"), update(session, **call)])
    assert codes(answers) == ["VERSION_CONFLICT", "ok", "ok"]
    assert (answers[2]["context"], "replayed" in answers[2]) == ({"a": 1}, False)


@contextmanager
def poisoned(fleet: RunningFleet, session_id: str) -> Iterator[None]:
    """PostgreSQL refuses every statement that writes this session's row."""
    make = f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'poisoned' USING ERRCODE = 'check_violation'; END $$;
        CREATE TRIGGER poison BEFORE UPDATE ON sessions FOR EACH ROW
        WHEN (new.id = '{session_id}') EXECUTE FUNCTION refuse();
    """
    with fleet.engine.begin() as db:
        db.execute(text(make))
    try:
        yield
    finally:
        with fleet.engine.begin() as db:
            db.execute(text("DROP TRIGGER poison ON sessions; DROP FUNCTION refuse()"))


def test_one_that_makes_the_statement_fail_is_answered_alone(single: RunningFleet) -> None:
    """R-07, B-13: the list as a whole fails, so its messages run one by one: no other notices it."""
    good, bad = [new(single) for _ in range(8)], new(single)
    before = stored(single, bad["id"])
    [worker] = single.of("sessions")
    calls = [note(one, "fine\n") for one in good]
    calls[4:4] = [note(bad, "never\n")]
    with poisoned(single, bad["id"]):
        _, answers = at_once(single, calls)
    assert codes(answers) == ["ok"] * 4 + ["INTERNAL"] + ["ok"] * 4
    assert "messages are executed one by one, together they failed" in worker.log_text()
    assert stored(single, bad["id"]) == before
    for one in good:
        assert single.call("session.read_output", session_id=one["id"])["output"] == "fine\n"
        assert stored(single, one["id"])["chunks"] == 1
    # The worker goes on with batches.
    handles, answers = at_once(single, [note(one, "again\n") for one in [*good, bad]])
    assert codes(answers) == ["ok"] * 9
    assert len(set(transactions(single, handles).values())) <= 3


def test_a_missing_month_is_made_for_the_whole_batch(single: RunningFleet) -> None:
    """J-02: the list runs again once the partition is there; nobody is refused."""
    sessions = [new(single) for _ in range(6)]
    month = datetime.now(UTC).strftime("%Y_%m")
    with single.engine.begin() as db:
        children = text(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit_events'::regclass ORDER BY 1"
        )
        names = [name for name in db.execute(children).scalars() if name.endswith(month)]
        assert names, f"no partition of {month}"
        for name in names:
            db.execute(text(f"ALTER TABLE audit_events DETACH PARTITION {name}"))
            db.execute(text(f"ALTER TABLE {name} RENAME TO kept_{name}"))
    _, answers = at_once(single, [update(one, context={"n": 1}) for one in sessions])
    assert codes(answers) == ["ok"] * 6
    assert all(stored(single, one["id"])["audited"] == 1 for one in sessions)


def test_what_asks_for_something_of_celery_goes_its_way(single: RunningFleet, producer: Celery) -> None:
    """P-11, E-19: expired, revoked and later messages between others that run together, and one whose worker died,
    whose start is counted."""
    session = new(single)
    others = [new(single) for _ in range(6)]
    revoked = str(uuid4())
    producer.control.revoke(revoked)
    known = producer.control.inspect(timeout=30, limit=2)  # as many workers answer; without it the time is waited out
    eventually(lambda: any(revoked in ids for ids in (known.revoked() or {}).values()))
    eta = datetime.now(UTC) + timedelta(seconds=4)

    def send(content: str, **options: Any) -> Any:
        kwargs = {"session_id": session["id"], "content": content}
        return producer.send_task("session.append_output", kwargs=kwargs, queue="sessions", priority=6, **options)

    with held(single):
        first = single.client.submit_many([update(one, context={"n": 1}) for one in others[:3]])
        late = send("expired\n", expires=datetime.now(UTC) - timedelta(seconds=1))
        never = send("revoked\n", task_id=revoked)
        later = send("later\n", eta=eta)
        limited = send("limited\n", time_limit=30, soft_time_limit=20)
        died = send("died\n", headers={DEATHS: 1})
        last = single.client.submit_many([update(one, context={"n": 1}) for one in others[3:]])
    assert codes(outcomes([*first, *last])) == ["ok"] * 6
    with pytest.raises(TaskRevokedError):
        never.get(timeout=60)
    with pytest.raises(TaskRevokedError):
        late.get(timeout=60)
    assert limited.get(timeout=60)["chunk_no"] == 1
    assert died.get(timeout=60)["chunk_no"] == 2
    assert later.get(timeout=60)["chunk_no"] == 3
    found = events(single, session["id"], "output.received")
    assert tasks_of_events(single, session) == [limited.id, died.id, later.id]
    assert datetime.fromisoformat(found[2]["timestamp"]) >= eta - timedelta(seconds=0.1)
    assert single.call("session.read_output", session_id=session["id"])["output"] == "limited\ndied\nlater\n"
    with single.engine.begin() as db:
        assert count_delivery(db, died.id) == 3, "once before this question"


def test_plain_celery_producers_are_answered_as_ever(single: RunningFleet, producer: Celery) -> None:
    """R-11: with the Celery result of their task, in the same batch as callers with a channel of their own."""
    sessions = [new(single) for _ in range(9)]

    def send(place: int, **options: Any) -> Any:
        name, kwargs = update(sessions[place], context={"n": place})
        return producer.send_task(name, kwargs=kwargs, queue="sessions", priority=6, **options)

    with held(single):
        plain = [send(place) for place in range(3)]
        ours = single.client.submit_many([update(sessions[place], context={"n": place}) for place in range(3, 6)])
        ignored = [send(place, ignore_result=True) for place in range(6, 8)]
        wrong = producer.send_task(
            "session.resume", kwargs={"session_id": sessions[8]["id"]}, queue="sessions", priority=6
        )
    assert [result.get(timeout=60)["context"] for result in plain] == [{"n": n} for n in range(3)]
    assert [answer["context"] for answer in outcomes(ours)] == [{"n": n} for n in range(3, 6)]
    with pytest.raises(Exception, match="INVALID_TRANSITION"):
        wrong.get(timeout=60)
    assert wrong.state == "FAILURE"
    for place in (6, 7):
        assert get(single, sessions[place]["id"])["context"] == {"n": place}
    with redis.Redis.from_url(single.settings.result_url) as results:
        kept = {result.id: results.exists(f"celery-task-meta-{result.id}") for result in [*plain, *ignored]}
        assert list(kept.values()) == [1, 1, 1, 0, 0]
        assert not results.exists(*(f"celery-task-meta-{handle.task_id}" for handle in ours))
    handles = [*plain, *ours, *ignored]
    with single.engine.connect() as db:
        found = db.execute(
            text("SELECT count(DISTINCT xid), count(*) FROM session_events WHERE task_id = ANY (:tasks)"),
            {"tasks": [getattr(one, "task_id", None) or one.id for one in handles]},
        ).one()
    assert found[1] == 8
    assert found[0] <= 3


def test_a_read_behind_a_write_sees_it(single: RunningFleet) -> None:
    """Q-01: of one producer's messages that wait for one worker, what came before is done before."""
    names = [f"order-{uuid4()}" for _ in range(5)]
    calls: list[tuple[str, Document]] = []
    for name in names:
        calls += [
            ("session.create", {"external_id": name}),
            ("session.get", {"session_id": name}),
            ("session.update", {"session_id": name, "metadata": {"a": 1}}),
            ("session.start", {"session_id": name}),
            ("session.get", {"session_id": name}),
        ]
    _, answers = at_once(single, calls)
    assert codes(answers) == ["ok"] * 25
    for place in range(0, 25, 5):
        assert answers[place] == {**answers[place + 1], "changed": True, "updates": []}
        assert (answers[place + 4]["status"], answers[place + 4]["metadata"]) == ("active", {"a": 1})


def test_a_held_row_keeps_no_neighbour_waiting(single: RunningFleet) -> None:
    """I6: those on other sessions are answered while the row is still held, those on it in their order afterwards."""
    sessions = [new(single) for _ in range(6)]
    blocked = sessions[2]
    with single.engine.begin() as db:
        hold(db, blocked["id"])
        with held(single):
            calls = [*map(update_of, sessions), update(blocked, metadata={"second": True})]
            handles = single.client.submit_many(calls)
        free = [handle for place, handle in enumerate(handles) if place not in (2, 6)]
        assert codes(outcomes(free, 25)) == ["ok"] * 5
        assert not handles[2].done()
        assert not handles[6].done()
    first, second = outcomes([handles[2], handles[6]])
    assert second["state_version"] == first["state_version"] + 1 == blocked["state_version"] + 2


def test_a_held_row_keeps_the_rest_of_a_list_waiting_only_for_its_answer(single: RunningFleet) -> None:
    """A-19: the other sessions of a list change while the row is still held; the answer has all, in order."""
    sessions = [new(single) for _ in range(4)]
    blocked = sessions[0]
    operations = [
        {"name": "session.update", "arguments": {"session_id": session["id"], "metadata": {"part": part}}}
        for part in ("first", "second")
        for session in sessions
    ]
    with single.engine.begin() as db:
        hold(db, blocked["id"])
        handle = single.client.submit("session.apply", operations=operations)
        eventually(lambda: parts(single, sessions) == [{}, *[{"part": "second"}] * 3])  # the worker waits: by SQL
        assert not handle.done()
    answer = handle.result(60)
    assert (answer["applied"], answer["failed"]) == (8, 0)
    answers = [item["answer"] for item in answer["items"]]
    assert [one["id"] for one in answers] == [session["id"] for session in sessions] * 2
    assert [one["metadata"] for one in answers] == [*[{"part": "first"}] * 4, *[{"part": "second"}] * 4]
    versions = [session["state_version"] + number for number in (1, 2) for session in sessions]
    assert [one["state_version"] for one in answers] == versions
    assert tasks_of_events(single, blocked) == [handle.task_id] * 2


def test_a_task_id_used_twice_loses_no_message(single: RunningFleet, producer: Celery) -> None:
    """A producer's own task ids may be less unique than it thinks. What was answered under such a one says nothing of
    a message that waits for a held row."""
    blocked, free = new(single), new(single)
    task_id = str(uuid4())
    with single.engine.begin() as db:
        hold(db, blocked["id"])
        with held(single):
            for session in (free, blocked):  # fetched one by one, the other way round neither is answered
                kwargs = {"session_id": session["id"], "model": "m", "idempotency_key": str(uuid4())}
                producer.send_task("session.update", kwargs=kwargs, queue="sessions", task_id=task_id)
        # Whoever is answered is so when the list is done, with or without the message that waits.
        eventually(lambda: producer.backend.get(f"celery-task-meta-{task_id}"))
    eventually(lambda: get(single, blocked["id"])["model"] == "m")
    assert get(single, free["id"])["model"] == "m"
