"""A consumer of the safe channel in an event loop of this process, turned by hand."""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Callable, Iterator
from queue import Empty
from typing import Any

from kombu import Connection, Consumer, Queue
from kombu.asynchronous.hub import Hub


class Looping:
    """``received`` holds the messages in the order they came; ``on_message`` may be replaced."""

    def __init__(self, connection: Connection, *queues: str | Queue, prefetch: int = 1, no_ack: bool = False) -> None:
        self.hub = Hub()
        self.hub.propagate_errors = connection.connection_errors
        self.connection = connection
        connection.connect()
        connection.transport.register_with_event_loop(connection.connection, self.hub)
        self.channel: Any = connection.default_channel
        self.channel.basic_qos(0, prefetch, False)
        self.received: list[Any] = []
        self.on_message: Callable[[Any], None] = lambda message: None
        named = [one if isinstance(one, Queue) else Queue(one, routing_key=one) for one in queues]
        self.consumer = Consumer(self.channel, named, on_message=self._receive, no_ack=no_ack, accept=["json"])
        self.consumer.consume()

    def _receive(self, message: Any) -> None:
        self.received.append(message)
        self.on_message(message)

    @property
    def bodies(self) -> list[Any]:
        return [message.payload for message in self.received]

    def ask(self) -> None:
        """Sends the next request; returns when its answer can be read, without reading it."""
        cycle: Any = self.connection.transport.cycle
        cycle._register_BRPOP(self.channel)
        assert select.select([self.channel._in_poll._sock], [], [], 20)[0]

    def wait(self) -> None:
        """Has just begun to wait for a bell when this returns."""
        self.idle()
        assert select.select([self.channel._in_poll._sock], [], [], 20)[0]
        with contextlib.suppress(Empty):
            self.channel._brpop_read()
        cycle: Any = self.connection.transport.cycle
        cycle._register_BRPOP(self.channel)
        assert self.channel._request == "bell"

    def turn(self) -> None:
        """One turn of the loop."""
        self.hub.run_once()

    def until(self, predicate: Callable[[], Any], timeout: float = 20) -> None:
        """Turns until it is true."""
        end = time.monotonic() + timeout
        while not predicate():
            assert time.monotonic() < end, f"not within {timeout} s; received {len(self.received)}"
            self.turn()

    def idle(self, timeout: float = 20) -> None:
        """Turns until everything is acknowledged and the consumer waits for a bell."""
        self.until(lambda: self.channel._request == "bell" and self.channel._in_poll and not self.channel.finished)

    def break_off(self) -> None:
        """The process is gone, as far as anybody can see: nothing is acknowledged, nothing given back."""
        for pool in (self.channel._pool, self.channel._async_pool):
            if pool is not None:
                pool.disconnect()
        if self.channel._qos is not None:
            self.channel._qos._on_collect.cancel()
        self.hub.close()

    def close(self) -> None:
        self.connection.release()
        self.hub.close()


@contextlib.contextmanager
def looping(connection: Connection, *queues: str | Queue, **options: Any) -> Iterator[Looping]:
    """A :class:`Looping` consumer that is closed at the end."""
    loop = Looping(connection, *queues, **options)
    try:
        yield loop
    finally:
        loop.close()
