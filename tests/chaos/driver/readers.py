"""Subscribers that follow a session from its first event, all along or with absences."""

from __future__ import annotations

import random
import threading
import time

from sessionfleet import Event, Fleet
from sessionfleet.errors import FleetError
from sessionfleet.event_stream import EventStream


class Reader(threading.Thread):
    """Collects the events of one session; ``leaves``: it goes away now and then and comes back with its cursor."""

    def __init__(self, client: Fleet, session_id: str, *, leaves: random.Random | None = None) -> None:
        super().__init__(name=f"reader-{session_id[:8]}", daemon=True)
        self.session_id = session_id
        self.seen: list[Event] = []
        self.visits = 0
        self.failure: BaseException | None = None
        self._client = client
        self._leaves = leaves
        self._stream: EventStream[Event] | None = None
        self._over = threading.Event()

    @property
    def cursor(self) -> int:
        return self.seen[-1].seq if self.seen else 0

    def run(self) -> None:
        try:
            while not self._over.is_set():
                self._visit()
                if self._leaves is not None:
                    self._over.wait(self._leaves.uniform(0.5, 6))
        except BaseException as error:  # noqa: BLE001 - shown in the report
            self.failure = error

    def _visit(self) -> None:
        until = time.monotonic() + self._leaves.uniform(3, 12) if self._leaves is not None else None
        try:
            stream = self._client.subscribe(self.session_id, after_seq=self.cursor, ping=1.0)
        except FleetError as error:
            if not error.retryable:
                raise
            self._over.wait(0.2)
            return
        self.visits += 1
        self._stream = stream
        with stream:
            for event in stream:
                if not event.is_mark:
                    self.seen.append(event)
                if self._over.is_set() or (until is not None and time.monotonic() > until):
                    return

    def finish(self) -> None:
        """Ends it, within a second."""
        self._over.set()
        self.join(10)
