"""A subscription for programs with threads."""

from __future__ import annotations

import weakref
from collections import deque
from types import TracebackType
from typing import Self

from sessionfleet.event import Event
from sessionfleet.loop_thread import LoopThread
from sessionfleet.subscription import Subscription


class EventStream:
    """Iterator of :class:`Event`, subscribed from the moment it exists.

    ``with``, :meth:`close` (from any thread) or dropping it ends it early.
    """

    def __init__(self, loop: LoopThread, subscription: Subscription) -> None:
        self._loop = loop
        self._subscription = subscription
        self._ready: deque[Event] = deque()
        self._closed = False
        loop.run(subscription.start())
        weakref.finalize(self, loop.post, subscription.aclose).atexit = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        if not self._ready and not self._closed:
            self._ready.extend(self._loop.run(self._subscription.batch()))
        if not self._ready:
            raise StopIteration
        return self._ready.popleft()

    def close(self) -> None:
        """End it and close its connection; a thread that waits for the next event comes to the end."""
        if not self._closed:
            self._closed = True
            self._loop.run(self._subscription.aclose())
            self._ready.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
