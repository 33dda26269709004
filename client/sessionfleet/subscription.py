"""The reader's side of a subscription: choice, silence, signs of life, an end from anywhere."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Self

from sessionfleet.errors import ValidationFailed
from sessionfleet.event import CLOSED, END, PING, TIMEOUT
from sessionfleet.feed import end
from sessionfleet.source import Batches, Source, T

_ENDING: set[asyncio.Task[None]] = set()
"""Keeps tasks that end dropped subscriptions: a loop holds its tasks weakly."""


class Subscription(Generic[T]):
    """Async iterator of what a source brings.

    ``async with`` starts it, so that what happens from there on is seen; a bare ``async for``
    starts it at its first step. ``wanted``: only items it is true of are handed out. ``timeout``: it
    ends when the reader waited that many seconds for one of them. ``ping``: a mark after so many seconds
    of waiting, also while Redis is away. Starting raises a typed error; afterwards it reconnects by
    itself, for as long as it takes.

    The last item is always a mark ``end`` with its reason: what the source says, ``timeout``, or
    ``closed`` after :meth:`aclose`; a typed error that is not retryable is raised in its place. ``marks``
    false leaves that mark out.

    Reading goes on in a task of its own, so that neither a ping nor a cancellation of the reader
    depends on what Redis does; it ends with :meth:`aclose`, or when this object is dropped. A reader that was
    cancelled, as by a time limit of its own, may go on: nothing is lost.
    """

    def __init__(
        self,
        source: Source[T],
        *,
        wanted: Callable[[T], bool] = lambda _: True,
        timeout: float | None = None,
        ping: float | None = None,
        marks: bool = True,
    ) -> None:
        if ping is not None and not ping > 0:
            raise ValidationFailed.of("ping", "must be a number of seconds above 0")
        self._source = source
        self._batches = source.batches()
        self._wanted = wanted
        self._timeout = timeout
        self._ping = ping
        self._marks = marks
        self._ready: deque[T] = deque()
        self._started = False
        self.closed = False
        """Whether somebody ended it."""
        self.over = False
        """Whether all has been handed out, the end mark too."""
        self._quiet = 0.0
        """Seconds the reader has waited since the last item."""
        self._steps: list[asyncio.Task[list[T] | None]] = []
        """The step under way, if any; a list because the finalizer may know it but not ``self``."""
        weakref.finalize(self, _abandon, self._steps).atexit = False

    async def start(self) -> None:
        """Subscribe now; raises a typed error when that is not possible."""
        if not self._started:
            await self._step(None)
            self._started = True

    async def batch(self) -> list[T]:
        """What has come, or one ping; at last the end mark, and from then on nothing."""
        if self.over:
            return []
        await self.start()
        now = asyncio.get_running_loop().time
        asked_at = now()
        quiet_since = asked_at - self._quiet  # what the reader did meanwhile is no silence
        while True:
            over_at = _sum(quiet_since, self._timeout)
            ping_at = _sum(asked_at, self._ping)
            due_at = min((at for at in (over_at, ping_at) if at is not None), default=None)
            try:
                done, items = await self._step(None if due_at is None else max(0.0, due_at - now()))
            finally:
                self._quiet = now() - quiet_since
            if done:
                if items is None:
                    return self.last_words()
                if wanted := [item for item in items if self._wanted(item)]:
                    self._quiet = 0.0
                    return wanted
            elif over_at is not None and now() >= over_at:
                self._source.over = self._source.over or TIMEOUT
                await self.aclose()
                return self.last_words()
            elif ping_at is not None and now() >= ping_at:
                return [self._source.mark(PING)]

    def last_words(self) -> list[T]:
        """The end mark, once; for a reader whose subscription is closed."""
        if self.over:
            return []
        self.over = True
        return [self._source.mark(END, reason=self._source.over or CLOSED)] if self._marks else []

    async def _step(self, wait: float | None) -> tuple[bool, list[T] | None]:
        """Whether the source has brought a batch within ``wait`` seconds, and the batch: None at its end."""
        if self.closed:  # its generator may be ending this moment, and cannot be asked then
            return True, None
        if not self._steps:
            self._steps.append(asyncio.create_task(_fetch(self._batches), name="sessionfleet-subscription"))
        [step] = self._steps
        await asyncio.wait([step], timeout=wait)  # who is cancelled here finds it again with the next one
        if not step.done() or self._steps != [step]:  # a reader that was interrupted may still have had it
            return False, None
        self._steps.clear()
        return True, None if step.cancelled() else step.result()

    async def aclose(self) -> None:
        """End it and close its connections. What has come but was not handed out is dropped; the reader,
        who may be waiting, gets the end mark next."""
        self._started = self.closed = True
        self._ready.clear()
        await end(*self._steps)
        await self._batches.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if not self._ready:
            first, *rest = await self.batch() or (None,)
            if first is None:
                raise StopAsyncIteration
            self._ready.extend(rest)  # never the end mark, which comes alone
            return first
        return self._ready.popleft()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


async def _fetch(batches: Batches[T]) -> list[T] | None:
    return await anext(batches, None)


def _sum(at: float, seconds: float | None) -> float | None:
    return None if seconds is None else at + seconds


def _abandon(steps: list[asyncio.Task[Any]]) -> None:
    """End what a dropped subscription was doing; from whatever thread the garbage was found in."""
    for step in steps:
        loop = step.get_loop()
        with suppress(RuntimeError):  # the loop is closed, and everything with it
            loop.call_soon_threadsafe(_end_later, loop, step)


def _end_later(loop: asyncio.AbstractEventLoop, step: asyncio.Task[Any]) -> None:
    ending = loop.create_task(end(step))
    _ENDING.add(ending)
    ending.add_done_callback(_ENDING.discard)
