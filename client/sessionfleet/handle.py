"""Operations that were sent, each the place where its answer arrives."""

from __future__ import annotations

import asyncio
import threading
from time import monotonic
from typing import Any

from sessionfleet.request import Answer, Request, answer_of

CALL_SECONDS = 30.0

LONGEST_SECONDS = threading.TIMEOUT_MAX
"""What a thread can wait for; a longer time-out is this one."""

Stored = dict[str, Any]
"""An answer as workers store it."""


class Sent:
    """An operation that was sent; its answer finds it as long as somebody keeps it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.since = monotonic()
        self.stored: Stored | None = None

    @property
    def task_id(self) -> str:
        """Celery's task id; what logs, Flower and stored answers call this operation."""
        return self.request.task_id

    @property
    def idempotency_key(self) -> str | None:
        """The key it was sent with; None for reads and duties. PostgreSQL keeps the answer of a write under it."""
        return self.request.idempotency_key

    def done(self) -> bool:
        """Whether :meth:`result` returns at once."""
        return self.stored is not None

    def arrive(self, stored: Stored) -> None:
        """Its answer is there. Called in the loop of the reader."""
        self.stored = stored

    def _answer(self, timeout: float) -> Answer:
        """What arrived, after waiting for so long."""
        if self.stored is None:
            raise self.request.timed_out(timeout)
        return answer_of(self.request, self.stored)


class Handle(Sent):
    """An operation that was sent. Keep it as long as its answer is wanted."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._arrived = threading.Event()

    def arrive(self, stored: Stored) -> None:
        """See :meth:`Sent.arrive`."""
        super().arrive(stored)
        self._arrived.set()

    def result(self, timeout: float = CALL_SECONDS) -> Answer:
        """The answer, or its typed error; :class:`CallTimeout` after ``timeout`` seconds. May be
        asked again."""
        self._arrived.wait(min(timeout, LONGEST_SECONDS))
        return self._answer(timeout)


class AsyncHandle(Sent):
    """An operation that was sent. Keep it as long as its answer is wanted."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._waiting: list[asyncio.Future[None]] = []

    def arrive(self, stored: Stored) -> None:
        """See :meth:`Sent.arrive`."""
        super().arrive(stored)
        for waiter in self._waiting:
            _wake(waiter)

    async def result(self, timeout: float = CALL_SECONDS) -> Answer:
        """The answer, or its typed error; :class:`CallTimeout` after ``timeout`` seconds. May be
        asked again."""
        if self.stored is None:
            loop = asyncio.get_running_loop()
            waiter = loop.create_future()
            timer = loop.call_later(timeout, _wake, waiter)
            self._waiting.append(waiter)
            try:
                await waiter
            finally:
                timer.cancel()
                self._waiting.remove(waiter)
        return self._answer(timeout)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
