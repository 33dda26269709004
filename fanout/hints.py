"""The hint that wakes the relay after a commit (row D-08).

A hint is not a message: it says "look", carries nothing and may be lost; the relay polls anyway.
"""

from __future__ import annotations

import threading

from redis import Redis
from redis.exceptions import RedisError

from fanout.connection import Kept
from fanout.keys import HINT


class Hints:
    """Waits for hints, as the leading relay does. Workers leave them with :meth:`fanout.cache.DocumentCache.put`."""

    def __init__(self, client: Redis) -> None:
        self._kept = Kept(client)

    def wait(self, timeout: float, stop: threading.Event) -> bool:
        """Waits up to ``timeout`` seconds for a hint; whether one came. Never raises.

        ``timeout`` must be well below the client's own. While Redis is away this sleeps until ``stop`` is
        set or the time is over. For the leading relay only: a hint wakes one waiter.
        """
        try:
            connection = self._kept.take()
            lost = True
            try:
                connection.send_command("BLPOP", HINT, timeout)  # type: ignore[no-untyped-call]
                came = connection.read_response() is not None
                lost = False
            finally:
                self._kept.give_back(connection, lost=lost)
            return came
        except (RedisError, OSError):
            stop.wait(timeout)
            return False
