"""Many operations in few round trips (row R-11): ``submit_many``, and an asynchronous client with many callers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from sessionfleet import AsyncFleet, Fleet, envelope
from sessionfleet.errors import FleetError, InvalidTransition, UnknownOperation, ValidationFailed
from sessionfleet.names import BELL, list_of
from tests.integration.client.test_calls import urls
from tests.support import RunningFleet
from tests.support.servers import private_valkey
from workers.embedded import EmbeddedValkey


@pytest.fixture(scope="module")
def valkey() -> Iterator[EmbeddedValkey]:
    """A Redis without workers: what is sent there stays there."""
    with private_valkey() as server:
        yield server


@pytest.fixture
def empty(valkey: EmbeddedValkey) -> EmbeddedValkey:
    with valkey.client(0) as broker:
        broker.flushall()
    return valkey


def pushes(valkey: EmbeddedValkey) -> int:
    """LPUSH commands since the start: one for each list of a round trip and one for its bell."""
    with valkey.client(0) as broker:
        found: dict[str, Any] = broker.info("commandstats")
        return int(found.get("cmdstat_lpush", {}).get("calls", 0))


def test_answers_are_in_the_order_of_the_calls(fleet: RunningFleet) -> None:
    names = [f"many-{uuid4()}" for _ in range(120)]
    handles = fleet.client.submit_many(("session.create", {"external_id": name}) for name in names)
    assert [handle.result(30)["external_id"] for handle in handles] == names
    calls: list[tuple[str, dict[str, Any]]] = [("session.get", {"session_id": name}) for name in names[:3]]
    calls[1:1] = [("session.resume", {"session_id": names[0]}), ("session.count", {})]
    found: list[Any] = []
    for handle in fleet.client.submit_many(calls):
        try:
            found.append(handle.result(30))
        except FleetError as error:
            found.append(error)
    assert [found[place]["external_id"] for place in (0, 3, 4)] == names[:3]
    assert isinstance(found[1], InvalidTransition)
    assert found[2]["total"] >= 120


def test_each_is_a_message_of_its_own(fleet: RunningFleet) -> None:
    session_id = fleet.call("session.create", status="active")["id"]
    handles = fleet.client.submit_many(
        ("session.append_output", {"session_id": session_id, "content": f"{n}\n"}) for n in range(20)
    )
    assert len({handle.task_id for handle in handles}) == len({handle.idempotency_key for handle in handles}) == 20
    assert sorted(handle.result(30)["chunk_no"] for handle in handles) == list(range(1, 21))
    given = str(uuid4())
    call = ("session.touch", {"session_id": session_id, "idempotency_key": given})
    first, again = fleet.client.submit_many([call, call])
    assert {first.idempotency_key, again.idempotency_key} == {given}
    replayed = [handle.result(30).get("replayed", False) for handle in (first, again)]
    assert sorted(replayed) == [False, True]


@pytest.mark.parametrize(
    ("name", "arguments", "error"),
    [
        ("session.append_output", {"session_id": "s", "content": 7}, ValidationFailed),
        ("session.update", {"session_id": "s", "colour": "red"}, ValidationFailed),
        ("session.nothing", {}, UnknownOperation),
    ],
)
@pytest.mark.parametrize("place", [0, 3, 6])
def test_one_bad_argument_refuses_all(
    empty: EmbeddedValkey, name: str, arguments: dict[str, Any], error: type[FleetError], place: int
) -> None:
    """Nothing is sent then: neither what came before nor what comes behind."""
    calls: list[tuple[str, dict[str, Any]]] = [("session.touch", {"session_id": "s"})] * 6
    calls.insert(place, (name, arguments))
    with Fleet.connect(f"{empty.url}/0") as client, empty.client(0) as broker:
        with pytest.raises(error):
            client.submit_many(calls)
        assert broker.keys("*") == []
        client.submit_many(calls[:place] + calls[place + 1 :])
        assert broker.llen(list_of("sessions", 6)) == 6


def test_one_round_trip(empty: EmbeddedValkey) -> None:
    """By the server's own count: one push for each list and one bell, for up to 500 messages."""
    with Fleet.connect(f"{empty.url}/0") as client, empty.client(0) as broker:
        before = pushes(empty)
        assert client.submit_many([]) == []
        assert pushes(empty) == before
        client.submit_many([("session.count", {})] * 300)
        assert pushes(empty) - before == 2
        client.submit_many([("session.create", {"priority": word}) for word in ("low", "high", "low", "medium")])
        assert pushes(empty) - before == 6
        client.submit_many([("session.count", {})] * 1200)
        assert pushes(empty) - before == 12
        assert broker.llen(list_of("sessions", 6)) == 1501
        assert broker.llen(f"{BELL}sessions") == 5
        assert broker.ttl(f"{BELL}sessions") > 0


def test_200_concurrent_calls_take_few_round_trips(empty: EmbeddedValkey) -> None:
    """What is sent while a round trip is under way goes together with the next; nobody waits for a timer."""

    async def go() -> int:
        async with AsyncFleet.connect(f"{empty.url}/0") as client:
            await client.submit("session.count")
            before = pushes(empty)
            handles = await asyncio.gather(*(client.submit("session.count") for _ in range(200)))
            assert len({handle.task_id for handle in handles}) == 200
            return pushes(empty) - before

    took = asyncio.run(go())
    with empty.client(0) as broker:
        assert broker.llen(list_of("sessions", 6)) == 201
    assert took <= 40, "twenty round trips at most, of 200 calls"


def test_one_that_is_too_large_refuses_no_other(empty: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though they would have gone together."""
    monkeypatch.setattr(envelope, "LARGEST", 2000)

    async def go() -> list[Any]:
        async with AsyncFleet.connect(f"{empty.url}/0") as client:
            sizes = [10, 3000, 20]
            calls = [client.submit("session.create", context={"note": "x" * size}) for size in sizes]
            return await asyncio.gather(*calls, return_exceptions=True)

    found = asyncio.run(go())
    assert [isinstance(one, ValidationFailed) for one in found] == [False, True, False]
    with empty.client(0) as broker:
        assert broker.llen(list_of("sessions", 6)) == 2


def test_200_concurrent_calls_are_answered(fleet: RunningFleet) -> None:
    """Each with its own answer or error, those that ask for no answer among them."""
    session_id = fleet.call("session.create", status="active")["id"]

    async def go() -> list[Any]:
        async with AsyncFleet.connect(**urls(fleet)) as client:
            calls = [
                client.call("session.append_output", session_id=session_id, content=f"{n}\n")
                if n % 10
                else client.call("session.resume", session_id=session_id)
                for n in range(200)
            ]
            silent = [client.send("session.append_output", session_id=session_id, content="-\n") for _ in range(30)]
            found, _ = await asyncio.gather(asyncio.gather(*calls, return_exceptions=True), asyncio.gather(*silent))
            return list(found)

    found = asyncio.run(go())
    assert all(isinstance(one, InvalidTransition) for one in found[::10])
    chunks = [one["chunk_no"] for n, one in enumerate(found) if n % 10]
    assert len(set(chunks)) == 180
    fleet.call("session.append_output", session_id=session_id, content="last\n")
    last = fleet.call("session.append_output", session_id=session_id, content="last\n")["chunk_no"]
    assert max(chunks) < last


def test_many_of_an_asynchronous_client(fleet: RunningFleet) -> None:
    async def go() -> list[str]:
        async with AsyncFleet.connect(**urls(fleet)) as client:
            with pytest.raises(ValidationFailed):
                await client.submit_many([("session.count", {}), ("session.create", {"agent_id": 7})])
            handles = await client.submit_many(("session.create", {"metadata": {"n": n}}) for n in range(50))
            return [(await handle.result(30))["metadata"]["n"] for handle in handles]

    assert asyncio.run(go()) == list(range(50))
