"""One pub/sub connection that either delivers or says that it is broken.

A pub/sub socket can be dead without an error: the server was frozen, a firewall forgot it. So a
quiet connection is asked for a sign of life, and whoever reads must fetch what it may have missed
after every (re)connection.
"""

from __future__ import annotations

import asyncio
import os
from types import TracebackType
from typing import Any, Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, RedisError

LOST = (RedisError, OSError)
"""What a broken, frozen or absent server looks like from here."""

CONNECT_SECONDS = 2.0
ANSWER_SECONDS = 2.0
QUIET_SECONDS = 5.0
"""After this long without a byte the server is asked for one; without an answer in ANSWER_SECONDS
the connection is given up: a half-open connection ends within 7 s."""


def client(url: str) -> Redis:
    """A connection pool with every timeout set and no retries of its own."""
    redis: Redis = Redis.from_url(
        url,
        protocol=2,
        socket_timeout=ANSWER_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
        client_name=f"sessionfleet-client-{os.getpid()}",
        driver_info=None,  # redis-py reads its own version from disk for each connection, only to tell it
    )
    return redis


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks that talk to Redis and wait for their end.

    A cancellation that meets one of redis-py's time-outs of zero is lost, so they are asked again; not soon, since
    one that meets a task that closes its connection leaves that open.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        left = (await asyncio.wait(left, timeout=0.5))[1]


def goes_on(task: asyncio.Task[Any] | None) -> bool:
    """Whether it runs and will: asyncio.run cancels all tasks at once, and those that clean up may come before it."""
    return task is not None and not task.done() and not task.cancelling()


class Feed:
    """``async with Feed(redis, channel) as feed`` is subscribed when the block begins.

    ``within``: seconds that may take. Raises one of
    :data:`LOST` on entering and from :meth:`get`; nothing is retried here. Reads the connection itself: redis-py's
    PubSub takes three times as long for a message.
    """

    def __init__(self, redis: Redis, channel: str, *, within: float = CONNECT_SECONDS + ANSWER_SECONDS) -> None:
        self._pool = redis.connection_pool
        self._within = within
        self._channel = channel
        self._connection: Any = None
        self._asked = False

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(self._within):
                self._connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
                await self._connection.send_command("SUBSCRIBE", self._channel)
                while (await self._read(ANSWER_SECONDS) or [None])[0] != b"subscribe":
                    pass
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def get(self, timeout: float) -> bytes | None:
        """The next message, or None after ``timeout`` seconds without one."""
        now = asyncio.get_running_loop().time
        until = now() + timeout
        while True:
            wait = ANSWER_SECONDS if self._asked else QUIET_SECONDS
            left = until - now()
            found = await self._read(max(0.0, min(wait, left)))
            if found is not None and found[0] == b"message":
                data: bytes = found[2]
                return data
            if found is None:
                if left <= wait:
                    return None
                if self._asked:
                    raise ConnectionError("the server gave no sign of life")
                self._asked = True
                await self._connection.send_command("PING")

    async def _read(self, timeout: float) -> list[Any] | None:
        found: list[Any] | None = await self._connection.read_response(timeout=timeout, disconnect_on_error=False)
        if found is not None:
            self._asked = False
        return found

    async def _close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.disconnect(nowait=True)
            await self._pool.release(connection)
