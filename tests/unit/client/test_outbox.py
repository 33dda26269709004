"""What an asynchronous client sends while a round trip is under way goes together with the next (row R-11)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from sessionfleet.envelope import Letter
from sessionfleet.errors import Unavailable
from sessionfleet.outbox import Outbox
from sessionfleet.request import Request


def letter(number: int) -> Letter:
    return Letter(Request(str(number), "session.count", "sessions", {}, 6), b"{}")


class Way:
    """Takes what an outbox sends, one round trip at a time, each as long as the gate is shut."""

    def __init__(self) -> None:
        self.trips: list[tuple[list[str], float]] = []
        self.gate = asyncio.Event()
        self.under_way = 0
        self.begun = asyncio.Event()
        self.error: Exception | None = None

    async def send(self, letters: Sequence[Letter], until: float) -> None:
        self.trips.append(([one.request.task_id for one in letters], until))
        self.under_way += 1
        self.begun.set()
        assert self.under_way == 1, "one round trip at a time"
        try:
            await self.gate.wait()
            if self.error is not None:
                error, self.error = self.error, None
                raise error
        finally:
            self.under_way -= 1


def run(test: Callable[[Outbox, Way], Awaitable[None]], most: int = 500) -> Way:
    async def go() -> Way:
        way = Way()
        outbox = Outbox(way.send, most)
        async with asyncio.timeout(20):
            await test(outbox, way)
            await outbox.close()
        return way

    return asyncio.run(go())


async def put_all(outbox: Outbox, numbers: range) -> list[asyncio.Task[None]]:
    """Each from a task of its own, all of them waiting when this returns."""
    tasks = [asyncio.create_task(outbox.put([letter(n)], 100.0 + n)) for n in numbers]
    await asyncio.sleep(0)
    return tasks


def test_one_is_alone_and_what_comes_meanwhile_goes_together() -> None:
    """Nothing waits for a timer; the first one's time, which is the shortest, bounds the trip."""

    async def test(outbox: Outbox, way: Way) -> None:
        first = await put_all(outbox, range(1))
        await way.begun.wait()
        others = await put_all(outbox, range(1, 50))
        assert not any(task.done() for task in others)
        way.gate.set()
        await asyncio.gather(*first, *others)

    assert run(test).trips == [(["0"], 100.0), ([str(n) for n in range(1, 50)], 101.0)]


def test_no_more_than_one_round_trip_may_hold() -> None:
    async def test(outbox: Outbox, way: Way) -> None:
        first = await put_all(outbox, range(1))
        await way.begun.wait()
        others = await put_all(outbox, range(1, 24))
        way.gate.set()
        await asyncio.gather(*first, *others)

    assert [len(ids) for ids, _ in run(test, most=10).trips] == [1, 10, 10, 3]


def test_what_is_larger_than_a_round_trip_goes_as_it_is() -> None:
    """It is the sender's to cut: an outbox keeps together what was put together."""

    async def test(outbox: Outbox, way: Way) -> None:
        way.gate.set()
        await outbox.put([letter(n) for n in range(25)], 1.0)

    assert [len(ids) for ids, _ in run(test, most=10).trips] == [25]


def test_an_error_is_told_to_those_it_met_and_to_no_other() -> None:
    async def test(outbox: Outbox, way: Way) -> None:
        first = await put_all(outbox, range(2))
        await way.begun.wait()
        others = await put_all(outbox, range(2, 4))
        way.error = Unavailable(service="the broker", reason="on purpose")
        way.gate.set()
        found = await asyncio.gather(*first, *others, return_exceptions=True)
        assert [type(one) for one in found] == [Unavailable, Unavailable, type(None), type(None)]

    assert len(run(test).trips) == 2


def test_an_error_names_the_operation_of_whoever_gets_it() -> None:
    """B-12: to repeat a call with the key of another one would give it the other's answer."""

    def write(number: int) -> Letter:
        arguments = {"idempotency_key": f"key {number}"}
        return Letter(Request(str(number), "session.create", "sessions", arguments, 6), b"{}")

    async def test(outbox: Outbox, way: Way) -> None:
        way.error = Unavailable(service="the broker", reason="on purpose", attempts=3)
        way.gate.set()
        found = await asyncio.gather(
            *(outbox.put([write(n)], 1.0) for n in range(3)), outbox.put([letter(7)], 1.0), return_exceptions=True
        )
        errors = [one for one in found if isinstance(one, Unavailable)]
        named = [(one.details["task_id"], one.details["idempotency_key"]) for one in errors]
        assert named == [("0", "key 0"), ("1", "key 1"), ("2", "key 2"), ("7", None)]
        assert {one.details["attempts"] for one in errors} == {3}
        assert len({id(one) for one in errors}) == 4

    run(test)


def test_a_sender_that_gives_up_leaves_the_others_alone() -> None:
    async def test(outbox: Outbox, way: Way) -> None:
        first = await put_all(outbox, range(1))
        await way.begun.wait()
        others = await put_all(outbox, range(1, 4))
        others[1].cancel()
        first[0].cancel()
        await asyncio.sleep(0)
        way.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await others[1]
        await others[0]
        await others[2]
        # It goes on after that, too.
        await outbox.put([letter(9)], 1.0)

    sent = [task_id for ids, _ in run(test).trips for task_id in ids]
    assert sent == ["0", "1", "2", "3", "9"], "it may have been sent; whoever gave up cannot know"


def test_closing_waits_for_what_is_under_way() -> None:
    async def test(outbox: Outbox, way: Way) -> None:
        first = await put_all(outbox, range(3))
        await way.begun.wait()
        closing = asyncio.create_task(outbox.close())
        await asyncio.sleep(0)
        assert not closing.done()
        way.gate.set()
        await closing
        await asyncio.gather(*first)

    run(test)


def test_one_that_is_being_cancelled_takes_nothing_more() -> None:
    """asyncio.run cancels all tasks at once: who sends while he cleans up waited for ever for one that was ending."""

    async def test(outbox: Outbox, way: Way) -> None:
        await put_all(outbox, range(1))
        await way.begun.wait()
        assert outbox._task is not None
        outbox._task.cancel()
        way.gate.set()
        await outbox.put([letter(1)], 1.0)

    assert [ids for ids, _ in run(test).trips] == [["0"], ["1"]]
