"""fleet.batch(): many operations in a message, each with an answer of its own (R-11, B-13)."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest

from sessionfleet import AsyncFleet, Fleet
from sessionfleet.batch import AsyncBatch, AsyncBatchHandle
from sessionfleet.envelope import Letter
from sessionfleet.errors import (
    CallTimeout,
    SessionNotFound,
    Unavailable,
    UnknownOperation,
    ValidationFailed,
    VersionConflict,
)
from tests.support import RunningFleet
from tests.support.asking import get, new


@pytest.fixture
def client(fleet: RunningFleet) -> Fleet:
    return fleet.client


def sent(fleet: RunningFleet, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the messages that leave from now on, as they are sent."""
    sizes: list[int] = []
    outbox = fleet.client._remote.outbox
    put = outbox.put

    async def counted(letters: Sequence[Letter], until: float) -> None:
        sizes.extend(len(letter.request.arguments["operations"]) for letter in letters)
        await put(letters, until)

    monkeypatch.setattr(outbox, "put", counted)
    return sizes


def test_operations_keep_their_order(fleet: RunningFleet, client: Fleet) -> None:
    sessions = [new(fleet)["id"] for _ in range(3)]
    with client.batch(size=20) as batch:
        handles = [
            batch.add("session.append_output", session_id=sessions[n % 3], content=f"{n}\n") for n in range(300)
        ]
    assert all(handle.done() for handle in handles)
    assert [handle.result()["chunk_no"] for handle in handles] == [n // 3 + 1 for n in range(300)]
    chunks = client.call("session.read_output", session_id=sessions[1])["chunks"]
    assert [chunk["content"] for chunk in chunks] == [f"{n}\n" for n in range(1, 300, 3)]


def test_size_closes_a_message_and_what_comes_meanwhile_goes_with_the_next(
    fleet: RunningFleet, client: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = new(fleet)["id"]
    sizes = sent(fleet, monkeypatch)
    with client.batch(size=10, age=3600) as batch:
        handles = [batch.add("session.touch", session_id=session_id) for _ in range(10)]
        handles[9].result()
        assert sizes == [10]
        late = [batch.add("session.touch", session_id=session_id) for _ in range(5)]
        assert not any(handle.done() for handle in late)
    assert sizes == [10, 5]
    assert all(handle.done() for handle in late)


def test_age_closes_a_message(fleet: RunningFleet, client: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    session_id = new(fleet)["id"]
    sizes = sent(fleet, monkeypatch)
    with client.batch(size=1000, age=0.01) as batch:
        assert batch.add("session.touch", session_id=session_id).result()["id"] == session_id
        assert sizes == [1]


def test_one_fails_alone_and_is_not_lost(fleet: RunningFleet, client: Fleet) -> None:
    session_id = new(fleet)["id"]
    with client.batch() as batch:
        good = batch.add("session.update", session_id=session_id, context={"a": 1})
        bad = batch.add("session.update", session_id=session_id, expected_version=99, model="never")
        with pytest.raises(VersionConflict) as wrong:
            bad.result()
        assert wrong.value.details["expected"] == 99
    assert good.result()["context"] == {"a": 1}
    with pytest.raises(SessionNotFound), client.batch() as batch:
        batch.add("session.touch", session_id="nobody")
    with pytest.raises(ZeroDivisionError), client.batch() as batch:  # the block's own error comes first
        batch.add("session.touch", session_id="nobody")
        late = batch.add("session.update", session_id=session_id, context={"b": 2})
        _ = 1 / 0
    assert late.result()["context"] == {"a": 1, "b": 2}


def test_what_does_not_fit_is_refused_before_it_is_added(fleet: RunningFleet, client: Fleet) -> None:
    with client.batch() as batch:
        with pytest.raises(ValidationFailed, match="tags"):
            batch.add("session.update", session_id="any", tags="no list")
        for name in ("session.fly", "session.get", "session.apply", "schedule.pause"):
            with pytest.raises(UnknownOperation):
                batch.add(name, session_id="any")
    for outside in (batch, client.batch()):
        with pytest.raises(RuntimeError):
            outside.add("session.touch", session_id="any")
    for wrong in ({"size": 0}, {"size": 1001}, {"age": -1}):
        with pytest.raises(ValidationFailed):
            client.batch(**wrong)  # type: ignore[arg-type]


def test_many_threads_add_to_one_batch(fleet: RunningFleet, client: Fleet) -> None:
    sessions = [new(fleet)["id"] for _ in range(4)]
    with client.batch() as batch:

        def work(session_id: str) -> None:
            for n in range(50):
                batch.add("session.append_output", session_id=session_id, content=f"{n}\n")

        threads = [threading.Thread(target=work, args=(session_id,)) for session_id in sessions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for session_id in sessions:
        chunks = client.call("session.read_output", session_id=session_id)["chunks"]
        assert [chunk["content"] for chunk in chunks] == [f"{n}\n" for n in range(50)]


def test_a_message_is_repeated_with_one_effect(
    fleet: RunningFleet, client: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B-13: the first attempt arrives although its sender is told otherwise."""
    session_id, key = new(fleet)["id"], str(uuid4())
    outbox = client._remote.outbox
    put, lies = outbox.put, [1, 1]

    async def lie(letters: Sequence[Letter], until: float) -> None:
        await put(letters, until)
        if lies:
            lies.pop()
            raise Unavailable(service="the broker", reason="a test says so")

    monkeypatch.setattr(outbox, "put", lie)
    with client.batch() as batch:
        once = batch.add("session.update_metrics", session_id=session_id, metrics={"calls": 1}, idempotency_key=key)
        other = batch.add("session.update_metrics", session_id=session_id, metrics={"calls": 10})
    assert not lies
    assert (once.idempotency_key, once.result()["metrics"]) == (key, {"calls": 1})
    assert other.result()["metrics"] == {"calls": 11}
    assert get(fleet, session_id)["metrics"] == {"calls": 11}


def test_without_an_answer_each_operation_names_its_key(
    fleet: RunningFleet, client: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = new(fleet)["id"]

    async def lose(letters: Sequence[Letter], until: float) -> None:
        """They never leave."""

    monkeypatch.setattr(client._remote.outbox, "put", lose)
    with client.batch(timeout=0.3) as batch:
        handle = batch.add("session.touch", session_id=session_id)
        with pytest.raises(CallTimeout):
            handle.result(0.01)
        with pytest.raises(CallTimeout) as late:
            handle.result()
    assert late.value.details["operation"] == "session.touch"
    assert late.value.details["idempotency_key"] == handle.idempotency_key


def test_an_error_that_somebody_was_told_is_no_unheard_one(fleet: RunningFleet) -> None:
    """Who waited for a place or gave up waiting looked at no error; the loop's handler is not told of one."""

    async def refuse(client: AsyncFleet) -> None:
        async with client.batch(age=0.2) as batch:
            first = await batch.add("session.touch", session_id="nobody")
            with pytest.raises(CallTimeout):
                await first.result(0.01)
            assert batch._queue.first_when_full() is not None, "the second waits for a place"
            second = await batch.add("session.touch", session_id="nobody")
            for one in (first, second):
                with pytest.raises(SessionNotFound):
                    await one.result()

    async def main() -> list[dict[str, Any]]:
        unheard: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
        async with AsyncFleet(fleet.client.servers) as client:
            await refuse(client)
            gc.collect()  # when nobody has the handles any more, what was never looked at is told of
        return unheard

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sessionfleet.batch_queue.MAX_WAITING", 1)
        assert asyncio.run(main()) == []


def test_what_a_cancelled_batch_leaves_behind(fleet: RunningFleet) -> None:
    """B-12: operations without an answer end at once, with their key, and so does the wait for a place."""

    async def main() -> None:
        async with AsyncFleet(fleet.client.servers) as client:
            handles: list[AsyncBatchHandle] = []
            filling: list[asyncio.Task[AsyncBatchHandle]] = []
            gone, leaving = asyncio.Event(), asyncio.Event()

            async def lose(letters: Sequence[Letter], until: float) -> None:
                gone.set()

            async def fill(batch: AsyncBatch) -> AsyncBatchHandle:
                handles.append(await batch.add("session.touch", session_id="nobody"))
                return await batch.add("session.touch", session_id="nobody")

            async def collect() -> None:
                async with client.batch(size=1) as batch:
                    filling.append(asyncio.create_task(fill(batch)))
                    await gone.wait()
                    leaving.set()

            patch.setattr(client.outbox, "put", lose)
            collecting = asyncio.create_task(collect())
            await leaving.wait()
            collecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await collecting
            with pytest.raises(RuntimeError, match="closed"):
                await asyncio.wait_for(filling[0], 20)
            with pytest.raises(Unavailable) as ended:
                await handles[0].result(20)
            assert ended.value.details["idempotency_key"] == handles[0].idempotency_key

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sessionfleet.batch_queue.MAX_WAITING", 1)
        asyncio.run(main())


def test_the_asynchronous_half(fleet: RunningFleet) -> None:
    async def main() -> None:
        async with AsyncFleet(fleet.client.servers) as client:
            name = f"made-{uuid4()}"
            async with client.batch(age=0.01) as batch:
                made = await batch.add("session.create", external_id=name)
                updates = [await batch.add("session.update", session_id=name, context={"n": n}) for n in range(120)]
                assert (await made.result())["external_id"] == name
                missing = await batch.add("session.touch", session_id="nobody")
                with pytest.raises(SessionNotFound):
                    await missing.result()
            versions = [(await handle.result())["state_version"] for handle in updates]
            assert versions == list(range(2, 122))
            with pytest.raises(SessionNotFound):
                async with client.batch() as batch:
                    await batch.add("session.touch", session_id="nobody")

    asyncio.run(main())
