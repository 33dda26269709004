"""Calling a running fleet: answers, typed errors, many at once."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
import redis

from sessionfleet import AsyncFleet, Fleet
from sessionfleet.errors import (
    CallTimeout,
    DeadlineExceeded,
    FleetError,
    IdempotencyConflict,
    InvalidTransition,
    SessionNotFound,
    VersionConflict,
)
from tests.support import RunningFleet, eventually
from tests.support.crowd import hold_answers

THREADS, CALLS = 8, 20


def test_many_threads_share_one_reader(fleet: RunningFleet) -> None:
    user = f"threads-{uuid4()}"

    def work(thread: int) -> list[str]:
        return [
            fleet.client.call("session.create", user_id=user, external_id=f"{user}-{thread}-{n}")["external_id"]
            for n in range(CALLS)
        ]

    fleet.call("session.count")
    before = threading.active_count()
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(work, range(THREADS)))
        assert threading.active_count() == before + THREADS
    assert found == [[f"{user}-{thread}-{n}" for n in range(CALLS)] for thread in range(THREADS)]
    assert fleet.call("session.count", user_id=user)["total"] == THREADS * CALLS


def test_the_first_calls_of_many_threads_share_one_reader_too(fleet: RunningFleet) -> None:
    """Each in the loop of the one thread that was made, however many found none."""
    for _ in range(5):
        before = set(threading.enumerate())
        with Fleet.connect(fleet.settings.redis_url) as client, ThreadPoolExecutor(THREADS) as pool:
            barrier = threading.Barrier(THREADS)

            def call(_: int, client: Fleet = client, barrier: threading.Barrier = barrier) -> int:
                barrier.wait()
                return int(client.call("session.count")["total"])

            assert len(list(pool.map(call, range(THREADS)))) == THREADS
            assert len(set(threading.enumerate()) - before) == THREADS + 1
        assert set(threading.enumerate()) == before


def test_answers_are_told_apart_when_all_wait_at_once(fleet: RunningFleet) -> None:
    handles = {n: fleet.client.submit("session.create", metadata={"n": n}) for n in range(100)}
    for n, handle in reversed(handles.items()):
        assert handle.result(60)["metadata"] == {"n": n}
        assert handle.done()
        assert handle.result(0)["metadata"] == {"n": n}, "an answer can be asked for again"


def test_one_subscription_however_many_calls(fleet: RunningFleet) -> None:
    with redis.Redis.from_url(fleet.settings.result_url) as results, Fleet.connect(**urls(fleet)) as client:
        before = channels(results)
        for _ in range(5):
            client.call("session.count")
        assert channels(results) == {*before, client._remote.replies.channel}
        dropped = [client.submit("session.count") for _ in range(20)]
        del dropped
        gc.collect()
        client.call("session.count")
        assert channels(results) == {*before, client._remote.replies.channel}
        assert not client._remote.replies._waiting
        channel = client._remote.replies.channel
    with redis.Redis.from_url(fleet.settings.result_url) as results:
        eventually(lambda: channel not in channels(results))


def channels(results: redis.Redis) -> set[str]:
    """Channels of answers that somebody listens on."""
    found: Any = results.pubsub_channels("*celery-task-meta-*") + results.pubsub_channels("_fleet.reply.*")
    return {channel.decode() for channel in found}


def urls(fleet: RunningFleet) -> dict[str, str]:
    settings = fleet.settings
    return {
        "broker_url": settings.broker_url,
        "result_url": settings.result_url,
        "cache_url": settings.cache_url,
        "channel_prefix": settings.channel_prefix,
    }


def test_errors_of_workers_are_classes_here(fleet: RunningFleet) -> None:
    session_id = fleet.call("session.create")["id"]
    with pytest.raises(SessionNotFound) as missing:
        fleet.call("session.get", session_id="nobody")
    assert missing.value.details == {"session_id": "nobody"}
    with pytest.raises(InvalidTransition) as illegal:
        fleet.call("session.resume", session_id=session_id)
    assert illegal.value.details["from"] == "initializing"
    assert illegal.value.http_status == 400
    with pytest.raises(VersionConflict) as stale:
        fleet.call("session.start", session_id=session_id, expected_version=9)
    assert stale.value.details["current"] == 1


def test_a_key_used_twice_has_one_effect(fleet: RunningFleet) -> None:
    session_id = fleet.call("session.create")["id"]
    handle = fleet.client.submit("session.append_output", session_id=session_id, content="once\n")
    first = handle.result()
    again = fleet.call(
        "session.append_output", session_id=session_id, content="once\n", idempotency_key=handle.idempotency_key
    )
    assert again == first | {"replayed": True}
    with pytest.raises(IdempotencyConflict) as conflict:
        fleet.call(
            "session.append_output", session_id=session_id, content="two\n", idempotency_key=handle.idempotency_key
        )
    assert conflict.value.details["first_task_id"] == handle.task_id
    assert fleet.call("session.read_output", session_id=session_id)["output"] == "once\n"


def test_a_message_past_its_deadline_does_not_run(fleet: RunningFleet) -> None:
    external_id = f"late-{uuid4()}"
    with pytest.raises(DeadlineExceeded):
        fleet.call("session.create", external_id=external_id, deadline=-1)
    with pytest.raises(SessionNotFound):
        fleet.call("session.get", session_id=external_id)
    assert fleet.client.call("session.create", external_id=external_id, deadline=20)["external_id"] == external_id


def test_waiting_can_end_before_the_answer_comes(fleet: RunningFleet) -> None:
    external_id = f"slow-{uuid4()}"
    with fleet.engine.begin() as db:
        hold_answers(db)
        with pytest.raises(CallTimeout) as caught:
            fleet.client.call("session.create", timeout=0.0, external_id=external_id)
    assert caught.value.retryable
    key = caught.value.details["idempotency_key"]
    document = fleet.call("session.create", external_id=external_id, idempotency_key=key)
    assert document["external_id"] == external_id, "the same call with the same key is safe"


def test_send_waits_for_nobody(fleet: RunningFleet) -> None:
    external_id = f"sent-{uuid4()}"
    task_id = fleet.client.send("session.create", external_id=external_id)

    def exists() -> bool:
        try:
            return bool(fleet.call("session.get", session_id=external_id))
        except SessionNotFound:
            return False

    eventually(exists)
    with redis.Redis.from_url(fleet.settings.result_url) as results:
        assert not results.exists(f"celery-task-meta-{task_id}"), "and nothing is stored for nobody"


def test_iterate_shows_every_session_once_while_more_come(fleet: RunningFleet) -> None:
    user = f"pages-{uuid4()}"
    made = [fleet.call("session.create", user_id=user)["id"] for _ in range(7)]
    seen = []
    for document in fleet.client.iterate("session.list", user_id=user, limit=3):
        seen.append(document["id"])
        fleet.call("session.create", user_id=user)
    assert seen == made[::-1]


def test_iterate_goes_by_number_too(fleet: RunningFleet) -> None:
    session_id = fleet.call("session.create")["id"]
    for n in range(5):
        fleet.call("session.append_output", session_id=session_id, content=str(n))
    events = list(fleet.client.iterate("session.get_events", session_id=session_id, limit=2))
    assert [event["seq"] for event in events] == [1, 2, 3, 4, 5, 6]


def test_a_scope_completes_its_session(fleet: RunningFleet) -> None:
    with fleet.client.session_scope(agent_id="a1") as session:
        assert session["status"] == "active"
    assert fleet.call("session.get", session_id=session["id"])["status"] == "completed"


def test_a_scope_fails_its_session_and_lets_the_exception_go_on(fleet: RunningFleet) -> None:
    with pytest.raises(ZeroDivisionError), fleet.client.session_scope() as session:
        _ = 1 / 0
    document = fleet.call("session.get", session_id=session["id"])
    assert (document["status"], document["error_message"]) == ("failed", "ZeroDivisionError: division by zero")


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("no file b\udce4r", "ValueError: no file b\\udce4r"),
        ("a\x00b", "ValueError: a\\x00b"),
        ("x" * 70000, "ValueError: " + "x" * (65536 - 12)),
    ],
    ids=["surrogate", "nul", "long"],
)
def test_a_scope_fails_its_session_whatever_the_exception_says(fleet: RunningFleet, said: str, kept: str) -> None:
    """A-17: also what no text column can hold."""
    with pytest.raises(ValueError, match=said[:5]), fleet.client.session_scope() as session:
        raise ValueError(said)
    document = fleet.call("session.get", session_id=session["id"])
    assert (document["status"], document["error_message"]) == ("failed", kept)


@pytest.mark.parametrize("verb", ["terminate", "complete", "fail"])
def test_a_scope_leaves_alone_what_its_block_ended(fleet: RunningFleet, verb: str) -> None:
    with fleet.client.session_scope(status="active") as session:
        ended = fleet.call(f"session.{verb}", session_id=session["id"])
    assert fleet.call("session.get", session_id=session["id"])["status"] == ended["status"]


def test_a_scope_that_cannot_fail_its_session_says_so(fleet: RunningFleet) -> None:
    with pytest.raises(KeyError) as caught, fleet.client.session_scope() as session:
        fleet.call("session.delete", session_id=session["id"])
        raise KeyError("mine")
    assert "SESSION_NOT_FOUND" in caught.value.__notes__[0]


def test_the_host_application_has_its_own_celery(fleet: RunningFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    from celery import _state

    monkeypatch.setenv("CELERY_BROKER_URL", "redis://nowhere.invalid:1/0")
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "redis://nowhere.invalid:1/0")
    monkeypatch.setenv("CELERY_CONFIG_MODULE", "no_such_module_of_ours")
    current = _state._tls.current_app
    with Fleet.connect(**urls(fleet)) as client:
        assert client.call("session.count")["total"] >= 0
    assert _state._tls.current_app is current


def test_a_fork_gets_connections_of_its_own(fleet: RunningFleet) -> None:
    fleet.call("session.count")
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=lambda: answers.put(fleet.client.call("session.create")["status"]))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert answers.get() == "initializing"
    assert fleet.call("session.create")["status"] == "initializing"


@pytest.mark.parametrize("first", ["get", "batch", "call"])
def test_whatever_a_forked_child_calls_first(fleet: RunningFleet, first: str) -> None:
    """What the parent's loop would have to answer never comes: the child has one of its own."""
    session_id = fleet.client.get(fleet.call("session.create", status="active")["id"])["id"]

    def ask() -> str:
        if first == "batch":
            with fleet.client.batch() as batch:
                return str(batch.add("session.touch", session_id=session_id).result()["id"])
        if first == "get":
            return str(fleet.client.get(session_id)["id"])
        return str(fleet.client.call("session.get", session_id=session_id)["id"])

    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=lambda: answers.put(ask()))
    child.start()
    child.join(20)
    ended = child.exitcode
    child.kill()
    assert ended == 0
    assert answers.get() == session_id


def test_threads_of_a_forked_child_open_one_client(fleet: RunningFleet) -> None:
    """Their first calls meet: all are answered, by one loop."""
    fleet.call("session.count")

    def first_calls() -> tuple[int, int]:
        sys.setswitchinterval(1e-6)
        going = threading.Barrier(THREADS)

        def ask(_: int) -> bool:
            going.wait(20)
            return bool(fleet.client.call("session.count", timeout=20))

        with ThreadPoolExecutor(THREADS) as threads:
            answered = sum(threads.map(ask, range(THREADS)))
        return answered, [thread.name for thread in threading.enumerate()].count("sessionfleet-client")

    context = multiprocessing.get_context("fork")
    for _ in range(20):
        told = context.SimpleQueue()
        child = context.Process(target=lambda told=told: told.put(first_calls()))
        child.start()
        child.join(40)
        ended = child.exitcode
        child.kill()
        assert ended == 0
        assert told.get() == (THREADS, 1)


def test_closing_leaves_nothing(fleet: RunningFleet) -> None:
    before = set(threading.enumerate())
    client = Fleet.connect(**urls(fleet))
    client.call("session.count")
    assert set(threading.enumerate()) != before
    client.close()
    client.close()
    assert set(threading.enumerate()) == before
    never_used = Fleet.connect(**urls(fleet))
    never_used.close()


async def _async_tour(fleet: RunningFleet) -> None:
    async with AsyncFleet.connect(**urls(fleet)) as client:
        made = await asyncio.gather(*(client.call("session.create", metadata={"n": n}) for n in range(60)))
        assert [document["metadata"]["n"] for document in made] == list(range(60))
        session_id = made[0]["id"]
        with pytest.raises(InvalidTransition):
            await client.call("session.resume", session_id=session_id)
        handle = await client.submit("session.start", session_id=session_id)
        assert (await handle.result())["status"] == "active"
        assert handle.done()
        assert await client.send("session.touch", session_id=session_id)
        names = [e["event_name"] async for e in client.iterate("session.get_events", session_id=session_id, limit=1)]
        assert names[:2] == ["session.created", "session.started"]
        with pytest.raises(CallTimeout):
            await client.call("session.count", timeout=0.0)
        async with client.session_scope() as session:
            pass
        assert (await client.call("session.get", session_id=session["id"]))["status"] == "completed"
        with pytest.raises(ZeroDivisionError):
            async with client.session_scope() as session:
                _ = 1 / 0
        assert (await client.call("session.get", session_id=session["id"]))["status"] == "failed"


def test_the_asynchronous_client_does_the_same(fleet: RunningFleet) -> None:
    before = set(threading.enumerate())
    asyncio.run(_async_tour(fleet))
    assert set(threading.enumerate()) == before


async def _is_the_loop_free(fleet: RunningFleet) -> float:
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            at = time.monotonic()
            await asyncio.sleep(0.001)
            longest = max(longest, time.monotonic() - at)

    async with AsyncFleet.connect(**urls(fleet)) as client:
        await client.call("session.count")
        watcher = asyncio.create_task(watch())
        await asyncio.gather(*(client.call("session.count") for _ in range(40)))
        watcher.cancel()
    return longest


def test_the_loop_is_never_blocked_for_long(fleet: RunningFleet) -> None:
    assert asyncio.run(_is_the_loop_free(fleet)) < 2.5  # a frozen loop would stand still for seconds


def test_a_cancelled_call_leaves_the_client_whole(fleet: RunningFleet) -> None:
    async def go() -> None:
        async with AsyncFleet.connect(**urls(fleet)) as client:
            await client.call("session.count")
            call = asyncio.create_task(client.call("session.count"))
            await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert (await client.call("session.count"))["total"] >= 0

    asyncio.run(go())


def test_errors_read_well() -> None:
    assert str(SessionNotFound(session_id="x")) == "SESSION_NOT_FOUND: Session not found: x"
    assert issubclass(CallTimeout, FleetError)
