"""Collecting operations into ``session.apply`` messages: ``fleet.batch()``, blocking and asynchronous.

One message is under way at a time, and what is added meanwhile goes with the next one. That keeps
the order of the operations whatever the number of workers, and lets the size follow the load. A
message that fails for want of a server or an answer is repeated under its keys, so nothing in it happens twice.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

from sessionfleet.batch_queue import Entry, Queue
from sessionfleet.errors import FleetError
from sessionfleet.handle import LONGEST_SECONDS
from sessionfleet.loop_thread import LoopThread
from sessionfleet.request import Answer

if TYPE_CHECKING:
    from sessionfleet.aio import AsyncFleet

SIZE = 100
AGE_SECONDS = 0.05
TIMEOUT_SECONDS = 30.0
PAUSE = 0.1


def _waiter(future: concurrent.futures.Future[Answer]) -> asyncio.Future[Answer]:
    """For the running loop. Its error is no news: the future has it, for whoever asks."""
    waiter = asyncio.wrap_future(future)
    waiter.add_done_callback(lambda done: done.cancelled() or done.exception())
    return waiter


class AsyncBatchHandle:
    """An operation that was added to a batch."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry

    @property
    def idempotency_key(self) -> str:
        """The key it is sent with."""
        return self._entry.key

    def done(self) -> bool:
        """Whether :meth:`result` returns at once."""
        return self._entry.future.done()

    async def result(self, timeout: float = TIMEOUT_SECONDS) -> Answer:
        """The answer, or its typed error; :class:`CallTimeout` after ``timeout`` seconds. May be
        asked again."""
        self._entry.asked = True
        waiter = asyncio.shield(_waiter(self._entry.future))
        try:
            async with asyncio.timeout(timeout):
                return await waiter
        except TimeoutError:
            raise self._entry.timed_out(timeout) from None


class BatchHandle:
    """An operation that was added to a batch."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry

    @property
    def idempotency_key(self) -> str:
        """The key it is sent with."""
        return self._entry.key

    def done(self) -> bool:
        """Whether :meth:`result` returns at once."""
        return self._entry.future.done()

    def result(self, timeout: float = TIMEOUT_SECONDS) -> Answer:
        """As :meth:`AsyncBatchHandle.result`, blocking."""
        self._entry.asked = True
        try:
            return self._entry.future.result(min(timeout, LONGEST_SECONDS))
        except NotYet:
            raise self._entry.timed_out(timeout) from None


class _Sender:
    """Sends what a queue holds, in the event loop of ``fleet``."""

    def __init__(self, fleet: AsyncFleet, queue: Queue) -> None:
        self._fleet = fleet
        self._queue = queue
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="sessionfleet-batch")

    async def finish(self) -> None:
        """Send the rest and wait for all answers."""
        self._queue.closing = True
        self._wake.set()
        if self._task is not None:
            await self._task

    def add(self, entry: Entry) -> None:
        """Put it into the queue; may be called from any thread. Raises RuntimeError outside the ``with`` block of
        the batch: nothing would send it."""
        if self._task is None:
            raise RuntimeError("a batch collects inside its `with` block only")
        if self._queue.add(entry):
            self._task.get_loop().call_soon_threadsafe(self._wake.set)

    async def _run(self) -> None:
        try:
            await self._send_all()
        finally:  # whoever waits for a place or an answer would wait for nothing when this was cancelled
            self._queue.give_up()

    async def _send_all(self) -> None:
        while True:
            closing, wait = self._queue.closing, self._queue.wait()  # in this order: nothing is added after the first
            if closing and wait is None:
                return
            if wait == 0:
                await self._deliver(self._queue.take())
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            self._wake.clear()

    async def _deliver(self, entries: list[Entry]) -> None:
        """Send until there is an answer or the first operation's time is up."""
        message: dict[str, Any] = {
            "operations": [entry.step for entry in entries],
            "whole": "operation",
            "idempotency_key": str(uuid4()),
        }
        until = entries[0].until
        while True:
            try:
                answer = await self._fleet.call("session.apply", max(PAUSE, until - time.monotonic()), **message)
            except FleetError as error:
                if error.retryable and time.monotonic() + PAUSE < until:
                    await asyncio.sleep(PAUSE)
                    continue
                for entry in entries:
                    entry.fail(error)
            else:
                for entry, item in zip(entries, answer["items"], strict=True):
                    entry.finish(item)
            self._queue.ended(entries)
            return


class AsyncBatch:
    """Collects operations and sends them as ``session.apply``; see :meth:`sessionfleet.Fleet.batch`."""

    def __init__(self, fleet: AsyncFleet, size: int, age: float, timeout: float) -> None:
        self._queue = Queue(size, age)
        self._timeout = timeout
        self._sender = _Sender(fleet, self._queue)

    async def add(self, name: str, /, **arguments: Any) -> AsyncBatchHandle:
        """Add an operation; waits only while MAX_WAITING others do. Raises :class:`UnknownOperation`,
        :class:`ValidationFailed`, and RuntimeError outside the batch's ``async with`` block."""
        entry = Entry(name, arguments, self._timeout)
        while (first := self._queue.first_when_full()) is not None:
            await asyncio.wait([_waiter(first)])
        self._sender.add(entry)
        return AsyncBatchHandle(entry)

    async def __aenter__(self) -> Self:
        await self._sender.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._sender.finish()
        if error is None and (unread := self._queue.nobody_asked()) is not None:
            raise unread


class Batch:
    """Collects operations and sends them as ``session.apply``; see :meth:`sessionfleet.Fleet.batch`."""

    def __init__(self, loop: LoopThread, fleet: AsyncFleet, size: int, age: float, timeout: float) -> None:
        self._loop = loop
        self._queue = Queue(size, age)
        self._timeout = timeout
        self._sender = _Sender(fleet, self._queue)

    def add(self, name: str, /, **arguments: Any) -> BatchHandle:
        """As :meth:`AsyncBatch.add`, from any thread."""
        entry = Entry(name, arguments, self._timeout)
        while (first := self._queue.first_when_full()) is not None:
            concurrent.futures.wait([first])
        self._sender.add(entry)
        return BatchHandle(entry)

    def __enter__(self) -> Self:
        self._loop.run(self._sender.start())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop.is_elsewhere:
            return  # what was added is sent by the parent
        self._loop.run(self._sender.finish())
        if error is None and (unread := self._queue.nobody_asked()) is not None:
            raise unread
