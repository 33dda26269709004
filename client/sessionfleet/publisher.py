"""Sending messages to the broker within a bounded time (B-12).

Every attempt has a time limit, redis-py's own retries are off, and one loop of ours repeats the same messages - same
task ids, same idempotency keys - until the time is up. An error does not mean "not sent": a frozen server may still
hold the messages. That is why every write carries a key.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from redis import asyncio as aio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from sessionfleet.envelope import Letter
from sessionfleet.errors import Unavailable
from sessionfleet.feed import LOST
from sessionfleet.names import BELL, BELL_LIFE_MS, BUSY, RING, list_of

AT_ONCE = 500
"""Messages sent in one round trip, at most."""

BYTES_AT_ONCE = 4 * 1024 * 1024
"""Bytes of one round trip with several messages, at most: it is answered in time, and a repeat is short."""

CONNECTIONS = 8
"""Broker connections of a blocking client, at most; more threads than that take turns."""

CONNECT_SHARE = 0.2
ANSWER_SHARE = 0.3
"""Parts of submit_timeout for opening a connection and for the server's reply. One attempt on a
server that stopped answering costs at most their sum, so a second one still fits."""

PAUSE = 0.05
MAX_PAUSE = 0.4


class Mail:
    """The messages of one round trip and the attempts to send them, the last of which begins by ``start_by``
    (``time.monotonic()``)."""

    def __init__(self, letters: Sequence[Letter], start_by: float) -> None:
        lists: dict[str, list[bytes]] = {}
        for letter in letters:
            lists.setdefault(list_of(letter.request.queue, letter.request.priority), []).append(letter.payload)
        self.pushes: list[tuple[Any, ...]] = [("LPUSH", key, *payloads) for key, payloads in lists.items()]
        self.bells: list[tuple[Any, ...]] = [
            ("EVAL", RING, 2, BELL + queue, BUSY + queue, BELL_LIFE_MS)
            for queue in dict.fromkeys(letter.request.queue for letter in letters)
        ]
        """One per queue: it wakes one idle worker, which rings for the next if there is more."""
        self.start_by = start_by
        self._first = letters[0].request
        self._attempts, self._pause = 0, PAUSE

    def begin(self) -> None:
        """Before each attempt: raises TimeoutError when it is too late for one."""
        if time.monotonic() > self.start_by:
            raise TimeoutError("others were served first and the rest of the time is too short")

    def failed(self, error: Exception) -> float:
        """Seconds to the next attempt; raises :class:`Unavailable` where the time is too short for one."""
        self._attempts += 1
        pause, self._pause = self._pause, min(self._pause * 2, MAX_PAUSE)
        if time.monotonic() + pause > self.start_by:
            raise Unavailable(
                service="the broker",
                reason=str(error) or "it does not answer",
                attempts=self._attempts,
                **self._first.facts,
            ) from error
        return pause


class _Timed:
    """What both publishers have: how long an attempt may take."""

    def __init__(self, submit_timeout: float) -> None:
        self._connecting = submit_timeout * CONNECT_SHARE
        self._answering = submit_timeout * ANSWER_SHARE
        self.attempt_seconds = self._connecting + self._answering

    def _mails(self, letters: Sequence[Letter], until: float) -> Iterator[Mail]:
        start = size = 0
        for place, letter in enumerate(letters):
            size += len(letter.payload)
            if place > start and (place - start == AT_ONCE or size > BYTES_AT_ONCE):
                yield Mail(letters[start:place], until - self.attempt_seconds)
                start, size = place, len(letter.payload)
        if letters:
            yield Mail(letters[start:], until - self.attempt_seconds)


class Publisher(_Timed):
    """Sends letters; safe to use from many threads. Opens its connections on first use."""

    def __init__(self, broker_url: str, submit_timeout: float) -> None:
        super().__init__(submit_timeout)
        self._pool: Any = ConnectionPool.from_url(
            broker_url,
            socket_timeout=self._answering,
            socket_connect_timeout=self._connecting,
            retry=Retry(NoBackoff(), 0),
            **_options(),
        )
        self._free = threading.BoundedSemaphore(CONNECTIONS)

    def publish(self, letters: Sequence[Letter], until: float) -> None:
        """Put messages into their queues, in order, up to AT_ONCE in a round trip. Raises :class:`Unavailable` at the
        latest at ``until`` (``time.monotonic()``); then any of them may or may not have arrived."""
        for mail in self._mails(letters, until):
            while True:
                try:
                    self._send(mail)
                    break
                except LOST as error:
                    time.sleep(mail.failed(error))

    def _send(self, mail: Mail) -> None:
        if not self._free.acquire(timeout=max(mail.start_by - time.monotonic(), 0.0)):
            raise TimeoutError(f"all {CONNECTIONS} connections of this client were busy")
        try:
            mail.begin()
            connection = self._pool.get_connection()
            try:
                connection.send_packed_command(connection.pack_commands(mail.pushes + mail.bells))
                for _ in mail.pushes:
                    connection.read_response()
                for _ in mail.bells:  # one that cannot be rung is no reason to say that the messages were refused
                    with suppress(ResponseError):
                        connection.read_response()
            except BaseException:
                connection.disconnect()  # answers may be left in it
                raise
            finally:
                self._pool.release(connection)
        finally:
            self._free.release()

    def close(self) -> None:
        """Close all connections."""
        with suppress(RedisError, OSError):
            self._pool.disconnect()


class AsyncPublisher(_Timed):
    """As :class:`Publisher`, for one event loop and one call at a time, which its one connection serves."""

    def __init__(self, broker_url: str, submit_timeout: float) -> None:
        super().__init__(submit_timeout)
        pool: Any = aio.ConnectionPool.from_url(
            broker_url,
            socket_timeout=None,  # with one redis-py makes a task for each send
            socket_connect_timeout=self._connecting,
            retry=AsyncRetry(NoBackoff(), 0),
            **_options(),
        )
        self._connection = pool.make_connection()

    async def publish(self, letters: Sequence[Letter], until: float) -> None:
        """See :meth:`Publisher.publish`."""
        for mail in self._mails(letters, until):
            while True:
                try:
                    await self._send(mail)
                    break
                except LOST as error:
                    await asyncio.sleep(mail.failed(error))

    async def _send(self, mail: Mail) -> None:
        connection = self._connection
        mail.begin()
        try:
            if not connection.is_connected:
                async with _patience(self._connecting):
                    await connection.connect()
            async with _patience(self._answering):
                await connection.send_packed_command(connection.pack_commands(mail.pushes + mail.bells))
                for _ in mail.pushes:
                    await connection.read_response()
                for _ in mail.bells:
                    with suppress(ResponseError):
                        await connection.read_response()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise

    async def aclose(self) -> None:
        """Close the connection."""
        with suppress(*LOST):
            await self._connection.disconnect()


@asynccontextmanager
async def _patience(seconds: float) -> AsyncIterator[None]:
    """As asyncio.timeout, except that a loop which stood still for so long first hands out what came meanwhile."""
    async with asyncio.timeout(None) as limit:
        timer = asyncio.get_running_loop().call_later(seconds, limit.reschedule, 0.0)
        try:
            yield
        finally:
            timer.cancel()


def _options() -> dict[str, Any]:
    name = f"sessionfleet-client-{os.getpid()}"
    return {"protocol": 2, "socket_keepalive": True, "client_name": name, "driver_info": None}  # see feed.client
