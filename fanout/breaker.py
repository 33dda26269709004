"""A circuit breaker for Redis where it is a help, not a need (B-12).

After a failure the circuit is open: callers skip Redis for ``rest`` seconds. Then one caller probes while
the others go on skipping, so that an outage costs a process one timeout every ``rest`` seconds.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from weakref import WeakKeyDictionary

from redis import Redis

log = logging.getLogger(__name__)

REST = 1.0
"""Seconds without Redis after a failure."""


class Breaker:
    """Shared by everything in a process that uses one client; thread-safe. ``name`` is for the log."""

    def __init__(
        self, rest: float = REST, clock: Callable[[], float] = time.monotonic, name: str = "cache Redis"
    ) -> None:
        self._name = name
        self._rest = rest
        self._clock = clock
        self._lock = threading.Lock()
        self._closed_at: float | None = None
        self.failures = 0
        """Failed calls since the process began."""
        self.skipped = 0
        """Calls not made while the circuit was open, since the process began."""

    @property
    def is_open(self) -> bool:
        """Whether the last call that was made has failed."""
        return self._closed_at is not None

    def allows(self) -> bool:
        """Whether to call Redis now. Whoever gets True reports :meth:`succeeded` or :meth:`failed`."""
        if not self.is_open:
            return True
        with self._lock:
            now = self._clock()
            if self._closed_at is not None and now < self._closed_at:
                self.skipped += 1
                return False
            if self._closed_at is not None:
                self._closed_at = now + self._rest  # the others go on skipping while this one probes
            return True

    def succeeded(self) -> None:
        """The call worked: the circuit closes."""
        if not self.is_open:
            return
        with self._lock:
            was_open = self.is_open
            self._closed_at = None
        if was_open:
            log.info("%s answers again", self._name, extra={"failures": self.failures, "skipped": self.skipped})

    def failed(self, error: Exception) -> None:
        """The call failed: the circuit opens, or stays open. The first failure of an outage is logged."""
        with self._lock:
            self.failures += 1
            first = self._closed_at is None
            self._closed_at = self._clock() + self._rest
        if first:
            log.warning("%s failed, going on without it: %s", self._name, error)


_BREAKERS: WeakKeyDictionary[Redis, Breaker] = WeakKeyDictionary()
_LOCK = threading.Lock()


def breaker_of(client: Redis) -> Breaker:
    """The breaker everything that uses this client shares; made on first use."""
    with _LOCK:
        found = _BREAKERS.get(client)
        if found is None:
            found = _BREAKERS[client] = Breaker()
        return found
