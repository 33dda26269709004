"""Consumer groups as a service uses them: the client's consume against a running fleet (rows D-11, D-12, D-18)."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from sessionfleet import AsyncFleet, Fleet
from sessionfleet.errors import Unavailable, ValidationFailed
from sessionfleet.words import CONSUMER_GROUPS
from tests.support import RunningFleet, eventually
from tests.support.consuming import age_pending, groups_of, pending
from tests.support.private import private_fleets
from workers.home import ROOT


@pytest.fixture(scope="module")
def own() -> Iterator[RunningFleet]:
    """A fleet nobody else publishes to; each test has its group of it to itself."""
    with private_fleets() as make:
        yield make(sessions=1, maintenance=1, relay=1)


def session(fleet: RunningFleet, *types: str) -> str:
    """A session with these events, published."""
    session_id = str(fleet.call("session.create", status="active")["id"])
    for word in types:
        fleet.call("session.emit_event", session_id=session_id, type=word)
    eventually(lambda: fleet.cache.xlen(f"stream:session:{session_id}") == 2 + len(types))
    return session_id


HOLDER = """
import sys, time
from sessionfleet import Fleet
with Fleet.connect() as fleet:
    for delivery in fleet.consume(sys.argv[1], "dies"):
        print(delivery.event.event_id, flush=True)
        time.sleep(600)
"""


def test_an_event_a_killed_consumer_held_is_claimed(own: RunningFleet) -> None:
    """AT-D6 [D-11]: the four groups exist; what a killed process held goes to another once 30 s are over."""
    eventually(lambda: groups_of(own) == set(CONSUMER_GROUPS))
    group = "git_monitors"
    session(own)
    settings = own.settings
    environ = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}/client",
        "FLEET_BROKER_URL": settings.broker_url,
        "FLEET_RESULT_URL": settings.result_url,
        "FLEET_CACHE_URL": settings.cache_url,
    }
    command = [sys.executable, "-c", HOLDER, group]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        held = process.stdout.readline().strip()
        process.send_signal(signal.SIGKILL)
    assert [one["consumer"] for one in pending(own, group)][:1] == ["dies"]
    with own.client.consume(group, timeout=60) as consumer:
        eventually(lambda: len(pending(own, group)) >= 2)
        age_pending(own, group, 29)
        asked_at = time.monotonic()
        first = next(consumer)
        assert (first.event.event_id, first.deliveries) == (held, 2)
        assert time.monotonic() - asked_at < 20
        first.ack()
        rest = next(consumer)
        rest.ack()
    assert pending(own, group) == []


def test_a_consumer_goes_on_past_an_event_that_fails(own: RunningFleet) -> None:
    """AT-D5 [D-12]: three times failed is a dead letter with its reason; requeued it is delivered once."""
    group = "session_handlers"
    session_id = session(own, "good", "bad", "fine")
    handled: list[str] = []
    reasons: list[bool] = []

    def handle() -> None:
        with own.client.consume(group, "handler", timeout=60) as consumer:
            for delivery in consumer:
                if delivery.event.event_name == "bad" and len(reasons) < 3:
                    reasons.append(delivery.fail(f"cannot: {delivery.deliveries}"))
                    continue
                if delivery.event.session_id == session_id:
                    handled.append(delivery.event.event_name)
                delivery.ack()
                if handled.count("bad"):
                    return

    thread = threading.Thread(target=handle)
    thread.start()
    [letter] = eventually(lambda: own.call("event.dead_letters", group=group, session_id=session_id)["items"])
    assert (letter["failure_reason"], letter["deliveries"]) == ("cannot: 3", 3)
    assert own.call("event.requeue", ids=[letter["id"]])["requeued"] == [letter["id"]]
    assert own.call("event.requeue", ids=[letter["id"]])["skipped"] == [letter["id"]]
    thread.join(60)
    assert not thread.is_alive()
    assert reasons == [False, False, True]
    assert handled == ["session.created", "session.started", "good", "fine", "bad"]
    assert own.cache.xlen(f"stream:retry:{group}") == 0


def test_the_asynchronous_client_does_the_same(own: RunningFleet) -> None:
    """Two consumers share the work; a malformed entry becomes a letter and both go on [D-11 D-18]."""
    group = "file_watchers"
    own.cache.xadd(f"stream:retry:{group}", {"envelope": "{"})
    session_id = session(own, *["work"] * 20)
    settings = own.settings
    everything: list[int] = []

    async def consume(name: str, over: asyncio.Event) -> list[int]:
        servers = {name: getattr(settings, name) for name in ("broker_url", "result_url", "cache_url")}
        seen = []
        async with (
            AsyncFleet.connect(**servers) as fleet,
            fleet.consume(group, name, batch=3, timeout=60) as consumer,
        ):
            closing = asyncio.create_task(close_after(over, consumer))
            async for delivery in consumer:
                if delivery.event.session_id == session_id:
                    seen.append(delivery.event.seq)
                    everything.append(delivery.event.seq)
                await asyncio.sleep(0)
                await delivery.ack()
                if len(everything) >= 22:
                    over.set()
            over.set()
            await closing
        return seen

    async def close_after(over: asyncio.Event, consumer: Any) -> None:
        """A second after the last event, so that one too many would be seen."""
        await over.wait()
        await asyncio.sleep(1)
        await consumer.aclose()

    async def both() -> list[list[int]]:
        over = asyncio.Event()
        return await asyncio.gather(consume("a", over), consume("b", over))

    first, second = asyncio.run(both())
    assert sorted(first + second) == list(range(1, 23))
    assert first == sorted(first)
    assert second == sorted(second)
    letters: Any = eventually(lambda: own.call("event.dead_letters", group=group)["items"])
    assert [letter["envelope"] for letter in letters] == [{"fields": {"envelope": "{"}}]


def test_groups_come_back_after_a_flush(own: RunningFleet) -> None:
    """D-11: a consumer gets what happens after a FLUSHALL, also when its connections break meanwhile."""
    group = "system_monitors"
    with own.client.consume(group, timeout=60) as consumer:
        session(own)
        for _ in range(2):
            next(consumer).ack()
        own.cache.flushdb()
        eventually(lambda: groups_of(own) == set(CONSUMER_GROUPS))
        for client in own.cache.client_list():
            if client["name"].startswith("sessionfleet-client"):
                own.cache.client_kill_filter(_id=client["id"])
        session_id = session(own)
        delivery = next(found for found in consumer if found.event.session_id == session_id)
        assert delivery.event.seq == 1
        delivery.ack()


def test_a_consumer_ends_when_asked_to(own: RunningFleet) -> None:
    with pytest.raises(ValidationFailed, match="group"):
        own.client.consume("others")
    with pytest.raises(ValidationFailed, match="batch"):
        own.client.consume("git_monitors", batch=101)
    session(own)
    consumer = own.client.consume("git_monitors", "waits")
    last = next(consumer)
    ended = threading.Event()

    def read() -> None:
        for delivery in consumer:
            delivery.ack()
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    eventually(lambda: [one["message_id"] for one in pending(own, "git_monitors")] == [last.stream_id])
    consumer.close()
    assert ended.wait(60)
    last.ack()  # it was handled in the end
    assert last.stream_id not in {one["message_id"] for one in pending(own, "git_monitors")}
    nowhere = Fleet.connect(
        broker_url="redis://127.0.0.1:1/0", result_url="redis://127.0.0.1:1/0", cache_url="redis://127.0.0.1:1/0"
    )
    with nowhere, nowhere.consume("git_monitors") as alone, pytest.raises(Unavailable):
        next(alone)
