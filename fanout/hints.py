"""The hint that wakes the relay after a commit (row D-08).

A hint is not a message: it says "look", carries nothing and may be lost; the relay polls anyway.
"""

from __future__ import annotations

import threading

from redis import Redis
from redis.exceptions import RedisError

from fanout.keys import HINT


class Hints:
    """Waits for hints, as the leading relay does. Workers leave them with :meth:`fanout.cache.DocumentCache.put`."""

    def __init__(self, client: Redis) -> None:
        self.client = client

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
