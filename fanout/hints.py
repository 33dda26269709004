"""The hint that wakes the relay after a commit (row D-08).

A hint is not a message: it says "look", carries nothing and may be lost; the relay polls anyway.
"""

from __future__ import annotations

import threading

from redis import Redis
from redis.exceptions import RedisError

from fanout.breaker import Breaker, breaker_of
from fanout.keys import HINT


class Hints:
    """Rings for, and waits for, the relay; thread-safe."""

    def __init__(self, client: Redis, breaker: Breaker | None = None) -> None:
        self.client = client
        self.breaker = breaker or breaker_of(client)

    def ring(self) -> None:
        """Wakes the leading relay. Never raises; skipped while Redis is away. Any number of rings before
        the relay looks are one."""
        if not self.breaker.allows():
            return
        try:
            with self.client.pipeline(transaction=False) as pipe:
                pipe.lpush(HINT, 1)
                pipe.ltrim(HINT, 0, 0)
                pipe.execute()
        except (RedisError, OSError) as error:
            self.breaker.failed(error)
        else:
            self.breaker.succeeded()

    def wait(self, timeout: float, stop: threading.Event) -> bool:
        """Waits up to ``timeout`` seconds for a hint; whether one came. Never raises.

        ``timeout`` must be well below the client's own. While Redis is away this sleeps until ``stop`` is
        set or the time is over. For the leading relay only: a hint wakes one waiter.
        """
        try:
            return self.client.blpop([HINT], timeout=timeout) is not None
        except (RedisError, OSError):
            stop.wait(timeout)
            return False
