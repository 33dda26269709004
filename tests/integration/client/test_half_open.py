"""A way to Redis on which nothing comes back, or nothing passes at all (B-12, B-13): a typed error in time, one
effect however often it is repeated, nothing left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import psutil
import pytest
import redis

from sessionfleet import AsyncFleet, Fleet
from sessionfleet.errors import InvalidTransition, Unavailable
from sessionfleet.names import ANSWER
from tests.integration.client.test_outages import SUBMIT, fails_in_time
from tests.support import RunningFleet, eventually
from tests.support.crowd import hold, wait_for_workers
from tests.support.proxy import Proxy, proxy


@pytest.fixture
def way(fleet: RunningFleet) -> Iterator[Proxy]:
    """A proxy before the fleet's Redis; the fleet itself goes without."""
    with proxy(urlsplit(fleet.settings.broker_url).port or 6379) as made:
        yield made


def through(fleet: RunningFleet, way: Proxy, *names: str) -> dict[str, Any]:
    """The fleet's URLs, those of ``names`` by way of the proxy."""
    settings = fleet.settings
    urls = {name: getattr(settings, name) for name in ("broker_url", "result_url", "cache_url")}
    for name in names:
        parts = urlsplit(urls[name])
        host = parts.netloc.rpartition("@")[0]
        urls[name] = parts._replace(
            netloc=f"{host}@127.0.0.1:{way.port}" if host else f"127.0.0.1:{way.port}"
        ).geturl()
    return {**urls, "channel_prefix": settings.channel_prefix, "submit_timeout": SUBMIT}


def sockets(way: Proxy) -> int:
    """Connections of this process to the proxy's port, its own ends not counted."""
    found = psutil.Process().net_connections("tcp")
    return sum(1 for one in found if one.raddr and one.raddr.port == way.port and one.status != "TIME_WAIT")


def output(fleet: RunningFleet, session_id: str) -> str:
    return str(fleet.call("session.read_output", session_id=session_id)["output"])


@pytest.mark.parametrize("buffered", [False, True])
def test_an_error_and_yet_published(fleet: RunningFleet, way: Proxy, buffered: bool) -> None:
    """T16 [B-13]: the command goes through, its reply is lost; the client's own repeats and the caller's make one
    effect, and the stored answer is what the repeat gets."""
    session_id, key = fleet.call("session.create", status="active")["id"], str(uuid4())
    call = {"session_id": session_id, "content": "once\n", "idempotency_key": key}
    with Fleet.connect(**through(fleet, way, "broker_url"), buffer=5 * buffered) as client:
        client.send("session.touch", session_id=session_id)
        way.deaf = True
        if buffered:
            client.send("session.append_output", **call)
        else:
            error = fails_in_time(lambda: client.call("session.append_output", **call))
            assert error.details["idempotency_key"] == key
        eventually(lambda: output(fleet, session_id) == "once\n")
        way.deaf = False
        way.cut()
        if buffered:
            assert client.flush(20) == []
        answer = client.call("session.append_output", **call)
        assert (answer["chunk_no"], answer["replayed"]) == (1, True)
        client.call("session.append_output", session_id=session_id, content="last\n")
    assert output(fleet, session_id) == "once\nlast\n"


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_nothing_passes_and_nothing_is_left(fleet: RunningFleet, way: Proxy, warm: bool) -> None:
    """B-12: connections are accepted and dead; every kind of call is an Unavailable in time."""
    session_id = fleet.call("session.create", status="active")["id"]
    threads = set(threading.enumerate())
    names = ("broker_url", "result_url", "cache_url")
    with Fleet.connect(**through(fleet, way, *names)) as client:
        if warm:
            client.call("session.get", session_id=session_id)
        way.freeze()
        try:
            kinds: list[Callable[[], Any]] = [
                lambda: client.send("session.touch", session_id=session_id),
                lambda: client.call("session.touch", session_id=session_id),
                lambda: client.subscribe(session_id),
                lambda: client.output(session_id),
                client.subscribe,
            ]
            with ThreadPoolExecutor(len(kinds)) as pool:
                assert len(list(pool.map(fails_in_time, kinds))) == len(kinds)
        finally:
            way.thaw()
        assert client.call("session.count", session_type=str(uuid4()).replace("-", ""))["total"] == 0
    assert set(threading.enumerate()) == threads
    eventually(lambda: sockets(way) == 0)


def test_no_task_is_left_in_a_loop(fleet: RunningFleet, way: Proxy) -> None:
    """B-12: the same of the asynchronous client."""

    async def go() -> set[str]:
        names = ("broker_url", "result_url", "cache_url")
        async with AsyncFleet.connect(**through(fleet, way, *names)) as client:
            session_id = (await client.call("session.create", status="active"))["id"]
            way.freeze()
            try:
                outcomes = await asyncio.gather(
                    *(client.send("session.touch", session_id=session_id) for _ in range(10)),
                    *(client.call("session.touch", session_id=session_id) for _ in range(10)),
                    *(client.subscribe(session_id).start() for _ in range(5)),
                    return_exceptions=True,
                )
            finally:
                way.thaw()
            assert {type(one) for one in outcomes} == {Unavailable}
        await asyncio.sleep(0)
        return {task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()}

    threads = set(threading.enumerate())
    assert asyncio.run(go()) == set()
    assert set(threading.enumerate()) == threads
    eventually(lambda: sockets(way) == 0)


def test_an_answer_that_came_while_nobody_could_hear_it(
    fleet: RunningFleet, way: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-11: it is looked for with the new connection, not only when it is time to look: one that never lasts so long
    would not find it before its copy is gone."""
    monkeypatch.setattr("sessionfleet.replies.CHECK_SECONDS", 3600.0)
    session_id = fleet.call("session.create", status="active")["id"]
    server = redis.Redis.from_url(fleet.settings.result_url)
    with Fleet.connect(**through(fleet, way, "result_url")) as client, server:
        client.call("session.count")
        with fleet.engine.begin() as db:
            hold(db, session_id)
            refused = client.submit("session.resume", session_id=session_id)
            wait_for_workers(fleet, 1)
            target, way.target = way.target, 1
            way.cut()
        eventually(lambda: server.exists(f"{ANSWER}{refused.task_id}"))
        way.target = target
        with pytest.raises(InvalidTransition):
            refused.result(20)
