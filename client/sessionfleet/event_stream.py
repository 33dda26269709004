"""A subscription for programs with threads."""

from __future__ import annotations

import weakref
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Generic, Self

from sessionfleet.loop_thread import LoopThread
from sessionfleet.source import T
from sessionfleet.subscription import Subscription


class EventStream(Generic[T]):
    """Iterator of what a subscription brings, subscribed from the moment it exists.

    ``with``, :meth:`close` (from any thread) or dropping it ends it early.
    """

    def __init__(self, loop: LoopThread, subscription: Subscription[T]) -> None:
        self._loop = loop
        self._subscription = subscription
        self._ready: deque[T] = deque()
        loop.run(subscription.start())
        weakref.finalize(self, loop.post, subscription.aclose).atexit = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        while True:
            with suppress(IndexError):
                return self._ready.popleft()
            if self._subscription.over:
                raise StopIteration
            if self._subscription.closed:  # and the loop may be gone
                self._ready.extend(self._subscription.last_words())
            else:
                self._loop.run(self._fetch())

    async def _fetch(self) -> None:
        """In the loop: what has come is kept, whoever interrupts the thread that waits for it."""
        self._ready.extend(await self._subscription.batch())

    def close(self) -> None:
        """End it and close its connection. What has come but was not handed out is dropped; the reader, who
        may be waiting in another thread, gets the end mark next."""
        self._ready.clear()
        if not self._subscription.closed and not self._loop.is_elsewhere:
            self._loop.run(self._subscription.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
