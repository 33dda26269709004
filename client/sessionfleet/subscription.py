"""The reader's side of a subscription: choice, silence, signs of life, an end from anywhere."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from types import TracebackType
from typing import Self

from sessionfleet.event import Event
from sessionfleet.feed import end
from sessionfleet.source import Batches, Source

Step = asyncio.Task[list[Event] | None]

_ENDING: set[asyncio.Task[None]] = set()
"""Keeps tasks that end dropped subscriptions: a loop holds its tasks weakly."""


class Subscription:
    """Async iterator of :class:`Event`.

    ``async with`` starts it, so that what happens from there on is seen; a bare ``async for``
    starts it at its first step. ``types``: only these event names or types are handed out.
    ``timeout``: it ends when the reader waited that many seconds for an event. ``ping``: a sign of
    life after so many seconds of waiting, also while Redis is away. Starting raises a typed error;
    afterwards it reconnects by itself, for as long as it takes.

    Reading goes on in a task of its own, so that neither a ping nor a cancellation of the reader
    depends on what Redis does; it ends with :meth:`aclose`, or when this object is dropped.
    """

    def __init__(
        self,
        source: Source,
        *,
        types: Collection[str] | None = None,
        timeout: float | None = None,
        ping: float | None = None,
    ) -> None:
        self._source = source
        self._batches = source.batches()
        self._types = frozenset(types) if types is not None else None
        self._timeout = timeout
        self._ping = ping
        self._ready: deque[Event] = deque()
        self._started = False
        self._quiet_since: float | None = None
        self._steps: list[Step] = []
        """The step under way, if any; a list because the finalizer may know it but not ``self``."""

    async def start(self) -> None:
        """Subscribe now; raises a typed error when that is not possible."""
        if not self._started:
            self._started = True
            weakref.finalize(self, _abandon, asyncio.get_running_loop(), self._steps).atexit = False
            await self._step(None)

    async def batch(self) -> list[Event]:
        """What has come, or one ping; empty at the end."""
        await self.start()
        now = asyncio.get_running_loop().time
        asked_at = now()
        if self._quiet_since is None:  # what the reader did meanwhile is no silence
            self._quiet_since = asked_at
        while True:
            over_at = _sum(self._quiet_since, self._timeout)
            ping_at = _sum(asked_at, self._ping)
            due_at = min((at for at in (over_at, ping_at) if at is not None), default=None)
            done, events = await self._step(None if due_at is None else max(0.0, due_at - now()))
            if done:
                wanted = [event for event in events or () if self._wanted(event)]
                if wanted or events is None:
                    self._quiet_since = None
                    return wanted
            elif over_at is not None and now() >= over_at:
                await self.aclose()
                return []
            elif ping_at is not None and now() >= ping_at:
                return [self._source.ping()]

    async def _step(self, wait: float | None) -> tuple[bool, list[Event] | None]:
        """Whether the source has brought a batch within ``wait`` seconds, and the batch: None at its end."""
        if not self._steps:
            self._steps.append(asyncio.create_task(_fetch(self._batches), name="sessionfleet-subscription"))
        [step] = self._steps
        try:
            await asyncio.wait([step], timeout=wait)
        except asyncio.CancelledError:
            await end(step)
            raise
        if not step.done():
            return False, None
        self._steps.clear()
        return True, None if step.cancelled() else step.result()

    async def aclose(self) -> None:
        """End it and close its connections; a reader that waits meanwhile comes to the end."""
        self._started = True
        await end(*self._steps)
        await self._batches.aclose()
        self._ready.clear()

    def _wanted(self, event: Event) -> bool:
        return self._types is None or event.event_name in self._types or event.event_type in self._types

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if not self._ready:
            self._ready.extend(await self.batch())
        if not self._ready:
            raise StopAsyncIteration
        return self._ready.popleft()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


async def _fetch(batches: Batches) -> list[Event] | None:
    return await anext(batches, None)


def _sum(at: float, seconds: float | None) -> float | None:
    return None if seconds is None else at + seconds


def _abandon(loop: asyncio.AbstractEventLoop, steps: list[Step]) -> None:
    """End what a dropped subscription was doing; from whatever thread the garbage was found in."""
    if steps:
        with suppress(RuntimeError):  # the loop is closed, and everything with it
            loop.call_soon_threadsafe(_end_later, loop, list(steps))


def _end_later(loop: asyncio.AbstractEventLoop, steps: list[Step]) -> None:
    ending = loop.create_task(end(*steps))
    _ENDING.add(ending)
    ending.add_done_callback(_ENDING.discard)
