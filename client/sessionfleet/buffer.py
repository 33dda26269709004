"""Messages that the broker did not take, kept in memory until it does; only for those who ask for it (B-12)."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from itertools import islice

from sessionfleet.envelope import Letter
from sessionfleet.errors import BufferFull, Unavailable, ValidationFailed
from sessionfleet.handle import LONGEST_SECONDS
from sessionfleet.publisher import Publisher

MOST = 1_000_000
PAUSE = 0.2
"""Seconds between two tries of the oldest message, each of which lasts as long as a send may."""

TOGETHER = 256
"""Kept messages that go to the broker in one round trip, at most."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Unsent:
    """A message that was given up. Whether the broker has it after all, nobody knows: send it again with its
    key, and it has one effect."""

    operation: str
    task_id: str
    idempotency_key: str | None


class SendBuffer:
    """Up to ``limit`` messages in the order in which they were sent, for any number of threads.

    While some are kept, a thread tries the oldest again and again; every other message goes behind them. Once
    the broker takes it, the rest follows in few round trips. Each keeps its task id and idempotency key, so a
    try that arrived although it failed has no second effect. What is kept dies with the process.
    """

    def __init__(self, publisher: Publisher, limit: int, submit_timeout: float) -> None:
        if not 1 <= limit <= MOST:
            raise ValidationFailed.of("buffer", f"must be from 0 (off) to {MOST}")
        self._publisher = publisher
        self._limit = limit
        self._seconds = submit_timeout
        self._kept: deque[Letter] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def send(self, letter: Letter) -> None:
        """Send it, or keep it. Waits for the broker, up to submit_timeout, only where none is kept
        yet. Raises :class:`BufferFull`."""
        with self._changed:
            if self._kept:
                self._keep(letter)
                return
        try:
            self._publisher.publish([letter], time.monotonic() + self._seconds)
        except Unavailable as error:
            with self._changed:
                if not self._kept:
                    log.warning("messages are kept until the broker takes them: %s", error)
                self._keep(letter)

    def flush(self, timeout: float) -> list[Unsent]:
        """Wait until all were sent, at most ``timeout`` seconds; what is still kept, the oldest first."""
        with self._changed:
            return self._left_after(timeout)

    def close(self, timeout: float) -> list[Unsent]:
        """:meth:`flush`, then give the rest up. Ends the thread; that takes up to submit_timeout more while
        a frozen server holds its last try."""
        with self._changed:
            left = self._left_after(timeout)
            self._closed = True
            self._kept.clear()
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()
        if left:
            log.warning("%d messages were kept and never sent", len(left))
        return left

    def _left_after(self, timeout: float) -> list[Unsent]:
        self._changed.wait_for(lambda: not self._kept, min(max(0.0, timeout), LONGEST_SECONDS))
        kept = [letter.request for letter in self._kept]
        return [Unsent(one.name, one.task_id, one.idempotency_key) for one in kept]

    def _keep(self, letter: Letter) -> None:
        if self._closed or len(self._kept) >= self._limit:
            request = letter.request
            raise BufferFull(
                limit=self._limit,
                operation=request.name,
                task_id=request.task_id,
                idempotency_key=request.idempotency_key,
            )
        self._kept.append(letter)
        if self._thread is None:
            self._thread = threading.Thread(target=self._drain, name="sessionfleet-buffer", daemon=True)
            self._thread.start()

    def _drain(self) -> None:
        many = 1
        while True:
            with self._changed:
                if not self._kept:
                    self._thread = None
                    self._changed.notify_all()
                    return
                oldest = list(islice(self._kept, many))
            try:
                self._publisher.publish(oldest, time.monotonic() + self._seconds)
            except Unavailable:
                many = 1  # large ones may go one by one where many do not in time
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, PAUSE)
                continue
            many = min(many * 2, TOGETHER)
            with self._changed:
                for one in oldest:
                    if self._kept and self._kept[0] is one:
                        self._kept.popleft()
