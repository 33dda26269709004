"""Sending messages to the broker within a bounded time (B-12).

Every socket has a timeout, redis-py's own retries are off, and one loop of ours repeats the same messages - same task
ids, same idempotency keys - until the time is up. An error does not mean "not sent": a frozen server may still hold
the messages. That is why every write carries a key.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.connection import ConnectionPool
from redis.exceptions import RedisError
from redis.retry import Retry

from sessionfleet.envelope import Letter
from sessionfleet.errors import Unavailable
from sessionfleet.names import BELL, BELL_LIFE_MS, list_of

CONNECTIONS = 8
"""Broker connections of one client, at most; more threads than that take turns."""

CONNECT_SHARE = 0.2
ANSWER_SHARE = 0.3
"""Parts of submit_timeout for opening a connection and for one reply of the server. One attempt on a
server that stopped answering costs at most their sum, so a second one still fits."""

PAUSE = 0.05
MAX_PAUSE = 0.4


class Publisher:
    """Sends letters; safe to use from many threads. Opens its connections on first use."""

    def __init__(self, broker_url: str, submit_timeout: float) -> None:
        self.attempt_seconds = submit_timeout * (CONNECT_SHARE + ANSWER_SHARE)
        self._pool = ConnectionPool.from_url(
            broker_url,
            protocol=2,
            socket_timeout=submit_timeout * ANSWER_SHARE,
            socket_connect_timeout=submit_timeout * CONNECT_SHARE,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),
            client_name=f"sessionfleet-client-{os.getpid()}",
        )
        self._redis: Redis = Redis(connection_pool=self._pool)
        self._free = threading.BoundedSemaphore(CONNECTIONS)

    def publish(self, *letters: Letter, until: float) -> None:
        """Put messages into their queues, in order, in one round trip. Raises :class:`Unavailable` at the latest at
        ``until`` (``time.monotonic()``); then any of them may or may not have arrived."""
        lists: dict[tuple[str, int], list[bytes]] = {}
        for letter in letters:
            lists.setdefault((letter.request.queue, letter.request.priority), []).append(letter.payload)
        pause, attempts = PAUSE, 0
        while True:
            attempts += 1
            try:
                self._send(lists, until)
                return
            except (RedisError, OSError) as error:
                if time.monotonic() + pause > until - self.attempt_seconds:
                    first = letters[0].request
                    raise Unavailable(
                        service="the broker",
                        reason=str(error) or type(error).__name__,
                        operation=first.name,
                        task_id=first.task_id,
                        idempotency_key=first.idempotency_key,
                        attempts=attempts,
                    ) from error
            time.sleep(pause)
            pause = min(pause * 2, MAX_PAUSE)

    def _send(self, lists: dict[tuple[str, int], list[bytes]], until: float) -> None:
        """Messages, then a bell per queue: it wakes one idle worker, which rings for the next if there is more."""
        spare = until - self.attempt_seconds - time.monotonic()
        if not self._free.acquire(timeout=max(spare, 0.0)):
            raise TimeoutError(f"all {CONNECTIONS} connections of this client were busy")
        try:
            if time.monotonic() > until - self.attempt_seconds:
                raise TimeoutError("others were served first and the rest of the time is too short")
            with self._redis.pipeline(transaction=False) as pipe:
                for (queue, step), payloads in lists.items():
                    pipe.lpush(list_of(queue, step), *payloads)
                for queue in dict.fromkeys(queue for queue, _ in lists):
                    pipe.lpush(BELL + queue, "1")
                    pipe.pexpire(BELL + queue, BELL_LIFE_MS)
                answers: list[Any] = pipe.execute(raise_on_error=False)
        finally:
            self._free.release()
        # A bell that cannot be rung is no reason to say that the messages were refused.
        for answer in answers[: len(lists)]:
            if isinstance(answer, Exception):
                raise answer

    def close(self) -> None:
        """Close all connections."""
        with suppress(RedisError, OSError):
            self._pool.disconnect()
