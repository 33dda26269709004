"""Clients at their end: closed by several, at the interpreter's exit, in a forked child, in another event loop."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sessionfleet import AsyncFleet, Fleet
from sessionfleet.batch import BatchHandle
from sessionfleet.consumer_blocking import Consumer
from sessionfleet.errors import Unavailable
from tests.integration.client.test_calls import urls
from tests.support import RunningFleet, eventually

CLIENT = Path(__file__).parents[3] / "client"


def test_closed_by_several_threads(fleet: RunningFleet) -> None:
    before = set(threading.enumerate())
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            client = Fleet.connect(**urls(fleet))
            client.call("session.count")
            assert list(pool.map(lambda _, client=client: client.close(), range(4))) == [[]] * 4
    assert set(threading.enumerate()) == before


def test_closing_ends_batches(fleet: RunningFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for a thread that waits for a place in one: it waited for ever."""
    monkeypatch.setattr("sessionfleet.batch_queue.MAX_WAITING", 1)
    client = Fleet.connect(**urls(fleet))
    batch = client.batch(age=60)
    handles: list[BatchHandle] = []
    ends: list[str] = []

    def fill() -> None:
        try:
            with batch:
                handles.append(batch.add("session.touch", session_id="nobody"))
                batch.add("session.touch", session_id="nobody")
        except RuntimeError as error:
            ends.append(str(error))

    filling = threading.Thread(target=fill, daemon=True)
    filling.start()
    eventually(lambda: bool(handles))
    client.close()
    filling.join(20)
    assert not filling.is_alive()
    assert "closed" in ends[0]
    with pytest.raises(Unavailable):
        handles[0].result(20)


def test_closing_ends_consumers(fleet: RunningFleet) -> None:
    """They come to their end as at their own close, which may come after it."""
    client = Fleet.connect(**urls(fleet))

    def read(consumer: Consumer) -> bool:
        with consumer:
            for delivery in consumer:
                delivery.ack()
        return True

    def waiting() -> int:
        found: Any = fleet.cache.client_list()
        mine = f"sessionfleet-client-{os.getpid()}"
        return sum(one["name"] == mine and one["cmd"].startswith("xread") for one in found)

    with ThreadPoolExecutor(3) as pool:
        reading = [pool.submit(read, client.consume("system_monitors")) for _ in range(3)]
        try:
            eventually(lambda: waiting() == len(reading))
        finally:
            client.close()
        assert [one.result(20) for one in reading] == [True] * 3


def test_an_asynchronous_one_ends_its_consumers_too(fleet: RunningFleet) -> None:
    async def go() -> list[Any]:
        fleet.call("session.create")
        async with AsyncFleet.connect(**urls(fleet)) as client:
            consumer = client.consume("system_monitors")
            await (await anext(consumer)).ack()
        return [one async for one in consumer]

    assert asyncio.run(go()) == []


EXIT = """
import atexit, sys
from sessionfleet import Fleet
fleet = Fleet.connect({urls}, buffer=5)
session_id = fleet.call("session.create", status="active")["id"]
fleet.send("session.touch", session_id=session_id)
atexit.register(lambda: print(fleet.call("session.get", session_id=session_id)["id"] == session_id, fleet.close()))
"""


def test_closed_at_the_interpreter_s_exit(fleet: RunningFleet) -> None:
    """One with a buffer too."""
    program = EXIT.format(urls=", ".join(f"{name}={url!r}" for name, url in urls(fleet).items()))
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(CLIENT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("True []\n", "")


def in_a_child(work: Callable[[], Any]) -> Any:
    """What it gives there, an exception as its text; fails when it does not end."""
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def run() -> None:
        try:
            answers.put(work())
        except RuntimeError as error:
            answers.put(str(error))

    child = context.Process(target=run)
    child.start()
    child.join(20)
    ended = child.exitcode
    child.kill()
    assert ended == 0
    return answers.get()


def test_what_was_opened_before_a_fork(fleet: RunningFleet) -> None:
    """It is the parent's: a child may drop or close it, cannot use it, and disturbs nothing."""
    client = fleet.client
    session_id = client.call("session.create", status="active")["id"]
    with client.subscribe(session_id) as events, client.consume("file_watchers") as consumer, client.batch() as batch:
        for opened in (events, consumer, batch):
            assert in_a_child(lambda opened=opened: opened.__exit__(None, None, None)) is None  # type: ignore[misc]
        for waits in (events, consumer):
            assert "before the fork" in in_a_child(lambda waits=waits: next(waits))  # type: ignore[misc]
        assert in_a_child(lambda: client.call("session.touch", session_id=session_id)["id"]) == session_id
        assert batch.add("session.touch", session_id=session_id).result()["id"] == session_id
        client.call("session.pause", session_id=session_id)
        assert [next(events).is_replay_end, next(events).event_name] == [True, "session.paused"]
        next(consumer).ack()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_event_loop_after_the_other(fleet: RunningFleet) -> None:
    """A module's client and several asyncio.run, nobody closing anything in between."""
    client = AsyncFleet.connect(**urls(fleet))

    async def go() -> list[Any]:
        session_id = (await client.call("session.create"))["id"]
        return [
            (await client.get(session_id))["id"] == session_id,
            bool(await client.send("session.touch", session_id=session_id)),
            (await client.call("session.get", session_id=session_id))["id"] == session_id,
        ]

    async def last() -> None:
        await go()
        await client.aclose()

    assert [asyncio.run(go()) for _ in range(3)] == [[True] * 3] * 3
    asyncio.run(last())
    asyncio.run(last())
    gc.collect()  # the sockets that were left open are told of here


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_that_was_closed_with_all_that_ran_in_it(fleet: RunningFleet) -> None:
    """Without asyncio.run, which ends the reader first: what goes on is not taken for one that still reads."""
    client = AsyncFleet.connect(**urls(fleet))
    for _ in range(3):
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(client.call("session.count", 10))["total"] >= 0
        loop.close()
    asyncio.run(client.aclose())
    del client, loop  # all that was left open is garbage now, not in some later test
    gc.collect()


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_scopes_that_end_with_their_event_loop(fleet: RunningFleet) -> None:
    """A-17: asyncio.run cancels reader and scopes at once; what a scope then calls is answered all the same."""
    end_with_scopes(fleet)
    gc.collect()  # what it left open is garbage now, not in some later test


def end_with_scopes(fleet: RunningFleet) -> None:
    client = AsyncFleet.connect(**urls(fleet))
    sessions: list[str] = []

    async def work(begun: asyncio.Event) -> None:
        async with client.session_scope() as session:
            sessions.append(session["id"])
            begun.set()
            await asyncio.Event().wait()

    async def go() -> float:
        begun = [asyncio.Event() for _ in range(5)]
        going = [asyncio.create_task(work(one)) for one in begun]
        await asyncio.gather(*(one.wait() for one in begun))
        assert not any(task.done() for task in going)
        return time.monotonic()

    ended_at = asyncio.run(go())
    assert time.monotonic() - ended_at < 15, "no call waited for its time-out"
    assert [fleet.call("session.get", session_id=one)["status"] for one in sessions] == ["failed"] * 5
    asyncio.run(client.aclose())


def test_two_event_loops_at_once(fleet: RunningFleet) -> None:
    """The second is told so, at once; the first goes on."""

    async def go() -> None:
        async with AsyncFleet.connect(**urls(fleet)) as client:
            session_id = (await client.call("session.create"))["id"]
            calls: list[Callable[[], Any]] = [
                lambda: client.call("session.count"),
                lambda: client.submit_many([("session.count", {})]),
                lambda: client.send("session.touch", session_id=session_id),
                lambda: client.get(session_id),
                lambda: client.subscribe(session_id).start(),
            ]

            def elsewhere() -> int:
                for call in calls:
                    with pytest.raises(RuntimeError, match="another event loop"):
                        asyncio.run(call())
                return len(calls)

            assert await asyncio.wait_for(asyncio.to_thread(elsewhere), 20) == len(calls)
            assert (await client.get(session_id))["id"] == session_id
            assert (await client.call("session.get", session_id=session_id))["id"] == session_id

    asyncio.run(go())
