"""RedBeat's scheduler, but for how it leaves."""

from __future__ import annotations

import logging

from redbeat import RedBeatScheduler
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.lock import Lock
from redis.retry import Retry

log = logging.getLogger(__name__)


class Scheduler(RedBeatScheduler):  # type: ignore[misc]
    """Gives its lock back as it ends, if Redis is there. One that is away is waited for by a beat that goes on, never
    by one that was told to end: then the lock runs out by itself (``redbeat_lock_timeout``).
    """

    lock: Lock | None

    def close(self) -> None:
        """Called by the handler of SIGTERM, also in the middle of a wait for Redis, and again at the very end."""
        if self.lock:
            self.lock.redis.set_retry(Retry(NoBackoff(), 0))
        try:
            super().close()
        except (RedisError, OSError) as error:
            log.warning("the lock is left to run out: %s", error)
            self.lock = None
            super().close()
