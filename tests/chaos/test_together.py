"""What breaks while waiting operations run as one transaction: the worker, its connections, PostgreSQL, the Redis of
the answers (rows A-12, B-13, P-11). Each has one effect, and no caller hears of it.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

from sqlalchemy import text

from sessionfleet.errors import Unavailable
from tests.chaos.kills import kill
from tests.support import RunningFleet, eventually
from tests.support.asking import Document, codes, new
from tests.support.batching import held, outcomes, transactions
from tests.support.crowd import hold, hold_answers, wait_for_workers

ROUNDS, EACH, CALLERS = 60, 20, 3


def line(session: Document, content: str = "once\n") -> tuple[str, Document]:
    return "session.append_output", {"session_id": session["id"], "content": content}


def chunks(fleet: RunningFleet, sessions: list[Document]) -> list[int]:
    """How many chunks of output, and as many events, each of them has."""
    statement = text("""
        SELECT (SELECT count(*) FROM session_output o WHERE o.session_id = s.id) AS chunks, s.last_seq, s.last_chunk,
            (SELECT count(*) FROM session_events e WHERE e.session_id = s.id) AS events,
            (SELECT count(*) FROM audit_events a WHERE a.session_id = s.id) AS audited
        FROM sessions s JOIN unnest(CAST(:ids AS uuid[])) WITH ORDINALITY AS wanted (id, place) USING (id)
        ORDER BY place
    """)
    with fleet.engine.connect() as db:
        rows = db.execute(statement, {"ids": [one["id"] for one in sessions]}).all()
    for row, session in zip(rows, sessions, strict=True):
        assert row.events == row.last_seq == row.audited == session["last_seq"] + row.chunks
        assert row.chunks == row.last_chunk
    return [row.chunks for row in rows]


def test_a_worker_killed_in_the_middle_of_a_batch(single: RunningFleet) -> None:
    """B-13, P-11: its transaction stands still; nothing of it stays, all messages come back."""
    fleet = single
    sessions = [new(fleet) for _ in range(20)]
    [worker] = fleet.of("sessions")
    with fleet.engine.begin() as db:
        with held(fleet):
            hold_answers(db)
            handles = fleet.client.submit_many(map(line, sessions))
        wait_for_workers(fleet, 1)
        kill(worker)
    assert chunks(fleet, sessions) == [0] * 20
    fleet.start("sessions")
    answers = outcomes(handles)
    assert codes(answers) == ["ok"] * 20
    assert [answer["chunk_no"] for answer in answers] == [1] * 20
    assert chunks(fleet, sessions) == [1] * 20
    again = outcomes(
        fleet.client.submit_many(
            (name, {**arguments, "idempotency_key": handle.idempotency_key})
            for (name, arguments), handle in zip(map(line, sessions), handles, strict=True)
        )
    )
    assert again == [{**answer, "replayed": True} for answer in answers]


def test_a_worker_killed_while_it_waits_for_a_held_row(single: RunningFleet) -> None:
    """B-13, P-11: what is on other sessions is committed by then, and answered by nobody; it has its effect once.

    On a busy machine the worker may not have taken the last of them yet.
    """
    fleet = single
    sessions = [new(fleet) for _ in range(20)]
    [worker] = fleet.of("sessions")
    with fleet.engine.begin() as db:
        hold(db, sessions[10]["id"])
        with held(fleet):
            handles = fleet.client.submit_many(map(line, sessions))
        wait_for_workers(fleet, 1)
        kill(worker)
        found = chunks(fleet, sessions)
        assert found[:12] == [1] * 10 + [0, 1]
        assert found[12:] == sorted(found[12:], reverse=True)
    fleet.start("sessions")
    assert [answer["chunk_no"] for answer in outcomes(handles)] == [1] * 20
    assert chunks(fleet, sessions) == [1] * 20


def test_a_worker_killed_after_the_commit_of_a_batch(single: RunningFleet) -> None:
    """B-13, P-11: all effects are there, no acknowledgement is; the second delivery gives the stored answers.

    The worker commits while nobody can take its answers: Redis is frozen.
    """
    fleet = single
    assert fleet.servers.valkey is not None
    sessions = [new(fleet) for _ in range(10)]
    [worker] = fleet.of("sessions")
    with fleet.engine.begin() as db:
        with held(fleet):
            hold_answers(db)
            handles = fleet.client.submit_many(map(line, sessions))
        wait_for_workers(fleet, 1)
        fleet.servers.valkey.pause()
    try:
        eventually(lambda: chunks(fleet, sessions) == [1] * 10, 20)
        kill(worker)
    finally:
        fleet.servers.valkey.resume()
    assert len(set(transactions(fleet, handles).values())) == 1
    fleet.start("sessions")
    answers = outcomes(handles)
    assert [answer["chunk_no"] for answer in answers] == [1] * 10
    assert chunks(fleet, sessions) == [1] * 10


def test_connections_ended_under_batches(single: RunningFleet) -> None:
    """A-12, B-13: a batch whose connection ends runs again; no error reaches a caller, none has two effects."""
    fleet = single
    sessions = [new(fleet) for _ in range(EACH)]
    over = threading.Event()
    ended = 0

    def work(_: int) -> list[Any]:
        found: list[Any] = []
        for _ in range(ROUNDS):
            found += outcomes(fleet.client.submit_many(map(line, sessions)))
        return found

    statement = text("""
        SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'fleet'
    """)
    with ThreadPoolExecutor(CALLERS) as pool:
        working = [pool.submit(work, caller) for caller in range(CALLERS)]
        for one in working:
            one.add_done_callback(lambda _: over.set() if all(other.done() for other in working) else None)
        while not over.wait(0.25):
            with fleet.engine.connect() as db:
                ended += db.execute(statement).scalar_one()
    answers = [answer for one in working for answer in one.result()]
    assert ended > 0
    assert codes(answers) == ["ok"] * (CALLERS * ROUNDS * EACH)
    assert not any("replayed" in answer for answer in answers if answer["chunk_no"] == 1)
    assert chunks(fleet, sessions) == [CALLERS * ROUNDS] * EACH


def test_an_outage_of_postgresql_under_a_batch(single: RunningFleet) -> None:
    """A-12, B-13: who waits is told, who does not wait has the effect once PostgreSQL is back, once."""
    fleet = single
    postgres = fleet.servers.postgres
    assert postgres is not None
    sessions = [new(fleet) for _ in range(5)]
    keys = [str(uuid4()) for _ in range(5)]
    with held(fleet):
        told = fleet.client.submit_many(
            (name, {**arguments, "idempotency_key": key})
            for (name, arguments), key in zip(map(line, sessions), keys, strict=True)
        )
        for n in range(3):
            for session in sessions:
                name, arguments = line(session, f"{n}\n")
                fleet.client.send(name, **arguments)
        fleet.engine.dispose()
        postgres.kill()
    try:
        answers = outcomes(told)
    finally:
        postgres.start()
    assert {type(answer) for answer in answers} == {Unavailable}
    eventually(lambda: chunks(fleet, sessions) == [3] * 5, 40)
    repeated = [
        fleet.call(name, **arguments, idempotency_key=key)
        for (name, arguments), key in zip(map(line, sessions), keys, strict=True)
    ]
    assert [answer["chunk_no"] for answer in repeated] == [4] * 5
    for session in sessions:
        read = fleet.call("session.read_output", session_id=session["id"])["output"]
        *kept, last = read.splitlines()
        # In any order: one that waited too long for PostgreSQL was given back, behind those that came later.
        assert (sorted(kept), last) == (["0", "1", "2"], "once")
