"""One consumer of a group for programs with threads (D-11)."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from sessionfleet.consumer import AsyncConsumer, AsyncDelivery
from sessionfleet.event import Event
from sessionfleet.loop_thread import LoopThread


class Delivery:
    """See :class:`AsyncDelivery`."""

    def __init__(self, loop: LoopThread, delivery: AsyncDelivery) -> None:
        self._loop = loop
        self._delivery = delivery

    @property
    def event(self) -> Event:
        """The event to handle."""
        return self._delivery.event

    @property
    def stream_id(self) -> str:
        """Its Stream entry, as ``event.consume`` names it."""
        return self._delivery.stream_id

    @property
    def deliveries(self) -> int:
        """How often it was given out, from 1."""
        return self._delivery.deliveries

    def ack(self) -> None:
        """See :meth:`AsyncDelivery.ack`."""
        self._loop.run(self._delivery.ack())

    def fail(self, reason: str) -> bool:
        """See :meth:`AsyncDelivery.fail`."""
        return self._loop.run(self._delivery.fail(reason))


class Consumer:
    """Iterator of :class:`Delivery`; made by :meth:`Fleet.consume`. See :class:`AsyncConsumer`."""

    def __init__(self, loop: LoopThread, consumer: AsyncConsumer) -> None:
        self._loop = loop
        self._consumer = consumer

    @property
    def consumer(self) -> str:
        """Its name in the group."""
        return self._consumer.consumer

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Delivery:
        delivery = None if self._consumer.closed else self._loop.run(self._next())
        if delivery is None:
            raise StopIteration
        return Delivery(self._loop, delivery)

    async def _next(self) -> AsyncDelivery | None:
        return await anext(self._consumer, None)

    def close(self) -> None:
        """See :meth:`AsyncConsumer.aclose`; from any thread."""
        if not self._consumer.closed and not self._loop.is_elsewhere:
            self._loop.run(self._consumer.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
