"""An answer that got lost on its way is found: by task id, then in PostgreSQL by its key (rows B-12, B-13, R-11)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

import pytest
import redis
from sqlalchemy import text

from sessionfleet import AsyncFleet, Fleet
from sessionfleet.errors import CallTimeout, InvalidTransition, ValidationFailed, VersionConflict
from sessionfleet.names import ANSWER, ANSWER_SECONDS
from tests.integration.client.test_calls import urls
from tests.support import RunningFleet, eventually
from tests.support.crowd import hold, wait_for_workers
from tests.support.private import private_fleets
from tests.support.servers import private_valkey
from workers.embedded import EmbeddedValkey


@pytest.fixture(scope="module")
def results() -> Iterator[EmbeddedValkey]:
    """The Redis of the answers, by itself."""
    with private_valkey() as server:
        yield server


@pytest.fixture(scope="module")
def apart(results: EmbeddedValkey) -> Iterator[RunningFleet]:
    """A fleet whose answers go through a Redis of their own."""
    with private_fleets() as make:
        yield make(sessions=1, relay=0, FLEET_RESULT_URL=f"{results.url}/0")


ASKED = "Task session.answers["
FIVE = [{"content": f"{n}\n"} for n in range(5)]


def away_while_it_commits(
    fleet: RunningFleet, results: EmbeddedValkey, session_id: str, writes: Sequence[dict[str, str]] = FIVE
) -> Any:
    """Handles of writes, each of whose answers was lost: the Redis they go to was away, message and copy were
    never there."""
    with fleet.engine.begin() as db:
        hold(db, session_id)
        handles = fleet.client.submit_many(
            ("session.append_output", {"session_id": session_id, **write}) for write in writes
        )
        wait_for_workers(fleet, 1)
        results.kill()
    [worker] = fleet.of("sessions")
    eventually(lambda: all(f"{handle.task_id}] succeeded" in worker.log_text() for handle in handles), 30)
    results.start()
    with results.client(0) as server:
        assert not server.exists(*(f"{ANSWER}{handle.task_id}" for handle in handles))
    return handles


def test_an_answer_of_which_nothing_is_left_in_redis(apart: RunningFleet, results: EmbeddedValkey) -> None:
    """B-13, R-11: PostgreSQL has it under its key; the caller only waits a little longer, and nothing is repeated."""
    session_id = apart.call("session.create", status="active")["id"]
    [worker] = apart.of("sessions")
    before = worker.log_text().count(ASKED)
    handles = away_while_it_commits(apart, results, session_id)
    answers = [handle.result(30) for handle in handles]
    assert [answer["chunk_no"] for answer in answers] == [1, 2, 3, 4, 5]
    assert not any("replayed" in answer for answer in answers), "it is the answer of this very task"
    read = apart.call("session.read_output", session_id=session_id)
    assert read["output"] == "0\n1\n2\n3\n4\n"
    assert 1 <= worker.log_text().count(ASKED) - before <= 5, "it was asked for, and many at once"


def test_several_calls_with_one_key(apart: RunningFleet, results: EmbeddedValkey) -> None:
    """B-13: the stored answer is that of the first of them, whoever else waits under its key."""
    session_id, key = apart.call("session.create", status="active")["id"], str(uuid4())
    write = {"content": "0\n", "idempotency_key": key}
    handles = away_while_it_commits(apart, results, session_id, [write, write, write])
    assert handles[0].result(30)["chunk_no"] == 1
    assert not any(handle.done() for handle in handles[1:]), "nobody keeps the answers of repeats"


def test_who_does_not_wait_so_long_is_told_and_may_repeat(apart: RunningFleet, results: EmbeddedValkey) -> None:
    """B-13: before the client asks, a time-out is what it always was."""
    session_id = apart.call("session.create", status="active")["id"]
    handles = away_while_it_commits(apart, results, session_id)
    with pytest.raises(CallTimeout) as caught:
        handles[0].result(0.1)
    key = caught.value.details["idempotency_key"]
    found: list[Any] = []

    def repeated() -> bool:
        """The worker may still go on without that Redis for a moment."""
        with suppress(CallTimeout):
            call = {"session_id": session_id, "content": "0\n", "idempotency_key": key}
            found.append(apart.call("session.append_output", 3, **call))
        return bool(found)

    eventually(repeated, 30)
    [again] = found
    assert (again["chunk_no"], again["replayed"]) == (1, True)


def test_the_copy_lies_ready_for_whoever_missed_the_message(fleet: RunningFleet) -> None:
    """R-11: of a read, a refusal and a repeat, under the task id, for half a minute; the client looks there after
    each new connection. A write is found by its key."""
    session_id = fleet.call("session.create", status="active")["id"]
    this: dict[str, Any] = {"session_id": session_id}
    touch = ("session.touch", {**this, "idempotency_key": str(uuid4())})
    with Fleet.connect(**urls(fleet)) as client:
        write = client.submit(touch[0], **touch[1])
        assert write.result(20)["id"] == session_id
        others = client.submit_many([touch, ("session.get", this), ("session.resume", this)])
        for handle in others:
            with suppress(InvalidTransition):
                assert handle.result(20)["id"] == session_id
    with redis.Redis.from_url(fleet.settings.result_url) as server:
        for handle in others:
            assert 0 < server.ttl(f"{ANSWER}{handle.task_id}") <= ANSWER_SECONDS
        assert not server.exists(f"{ANSWER}{write.task_id}")
        assert not server.exists(*(f"celery-task-meta-{handle.task_id}" for handle in (write, *others)))


def test_cut_off_while_it_is_answered(fleet: RunningFleet) -> None:
    """R-11: the connection that hears answers is ended while the write commits."""
    session_id = fleet.call("session.create", status="active")["id"]
    with redis.Redis.from_url(fleet.settings.result_url) as server, Fleet.connect(**urls(fleet)) as client:
        client.call("session.count")
        with fleet.engine.begin() as db:
            hold(db, session_id)
            handle = client.submit("session.append_output", session_id=session_id, content="a\n")
            wait_for_workers(fleet, 1)
            channel = client._remote.replies.channel
            server.client_kill_filter(_type="pubsub")
        assert handle.result(30)["chunk_no"] == 1
        eventually(lambda: channel.encode() in server.pubsub_channels("_fleet.reply.*"))
        assert client.call("session.count")["total"] >= 1


def test_stored_answers_by_key(fleet: RunningFleet) -> None:
    """B-13: what ``session.answers`` gives: one item for each key with a stored answer; it changes nothing."""
    session_id = fleet.call("session.create", status="active")["id"]
    keys = [str(uuid4()) for _ in range(3)]
    answers = {
        key: fleet.call("session.append_output", session_id=session_id, content=f"{key}\n", idempotency_key=key)
        for key in keys[:2]
    }
    with pytest.raises(VersionConflict):
        fleet.call("session.update", session_id=session_id, user_id="u", expected_version=99, idempotency_key=keys[2])
    found = fleet.call("session.answers", keys=[*keys, "never used"])["items"]
    assert {item["idempotency_key"]: item["answer"] for item in found} == answers
    with fleet.engine.begin() as db:
        tasks = dict(
            db.execute(text("SELECT key, task_id FROM idempotency_keys WHERE key = ANY (:k)"), {"k": keys}).all()
        )
        assert {item["idempotency_key"]: item["task_id"] for item in found} == tasks
        db.execute(text("UPDATE idempotency_keys SET expires_at = now() WHERE key = :key"), {"key": keys[0]})
    assert [item["idempotency_key"] for item in fleet.call("session.answers", keys=keys)["items"]] == [keys[1]]
    for wrong in ([], ["k"] * 501, [""]):
        with pytest.raises(ValidationFailed):
            fleet.call("session.answers", keys=wrong)


def asked(client: AsyncFleet) -> bool:
    """Whether this client has asked for stored answers and was told."""
    return client.replies._asking is not None and client.replies._asking.done()


def test_another_use_of_the_key_is_no_answer(fleet: RunningFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """B-13: a call whose key an earlier task used, with another body, is not given that one's answer."""
    monkeypatch.setattr("sessionfleet.replies.SILENT_SECONDS", 0.0)
    monkeypatch.setattr("sessionfleet.replies.CHECK_SECONDS", 0.1)
    session_id, key = fleet.call("session.create", status="active")["id"], str(uuid4())
    other = fleet.call("session.create")["id"]
    fleet.call("session.append_output", session_id=session_id, content="mine\n", idempotency_key=key)

    async def go() -> None:
        async with AsyncFleet.connect(**urls(fleet)) as client:
            await client.call("session.count")
            with fleet.engine.begin() as db:
                hold(db, other)
                handle = await client.submit(
                    "session.append_output", session_id=other, content="not mine\n", idempotency_key=key
                )
                await asyncio.to_thread(eventually, lambda: asked(client), 20)
                done = handle.done()
            assert not done, "the answer of another task"

    asyncio.run(go())
