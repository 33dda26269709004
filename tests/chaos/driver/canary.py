"""How long it takes after a fault until an operation succeeds again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sessionfleet import Fleet, Handle
from sessionfleet.errors import CallTimeout, FleetError
from tests.chaos.driver.journal import Journal

PATIENCE, MOST_PATIENCE = 1.0, 8.0
LONGEST = 120.0

LOOK = 0.1
"""Seconds between two looks after the processes: a supervisor would not wait for the answer either."""


@dataclass(frozen=True)
class Recovery:
    """After which faults, and the seconds from their end until the first answer."""

    faults: tuple[str, ...]
    seconds: float


class Canary:
    """Writes to a session of its own until it is answered, with one key per recovery.

    With the highest priority: what waits in the queue meanwhile is another number of the report.
    """

    def __init__(self, client: Fleet, session_id: str, journal: Journal) -> None:
        self._client = client
        self._session_id = session_id
        self._journal = journal
        self.recoveries: list[Recovery] = []

    def sing(self, faults: tuple[str, ...], meanwhile: Callable[[], None]) -> float:
        """Seconds from now to an answer, recorded; LONGEST when none comes by then."""
        began = time.monotonic()
        entry = self._journal.open("session.update_metrics")
        arguments = {"session_id": self._session_id, "metrics": {"sung": 1}, "actor": entry.mark}
        seconds, patience = LONGEST, PATIENCE
        while time.monotonic() - began < LONGEST:
            entry.tries += 1
            try:
                handle = self._client.submit(
                    entry.name, message_priority="critical", idempotency_key=entry.key, **arguments
                )
                answer = _answer(handle, patience, meanwhile)
            except FleetError as error:
                if not error.retryable:
                    raise
                entry.error = str(error)
                if isinstance(error, CallTimeout):
                    patience = min(patience * 2, MOST_PATIENCE)
                meanwhile()
                time.sleep(0.02)
                continue
            entry.answered(answer)
            seconds = time.monotonic() - began
            break
        else:
            entry.settle("unknown", entry.error)
        self.recoveries.append(Recovery(faults, seconds))
        return seconds


def _answer(handle: Handle, patience: float, meanwhile: Callable[[], None]) -> dict[str, Any]:
    """The answer within ``patience`` seconds, with ``meanwhile`` called all the time."""
    until = time.monotonic() + patience
    while True:
        meanwhile()
        left = max(0.0, until - time.monotonic())
        try:
            return handle.result(min(LOOK, left))
        except CallTimeout:
            if left <= LOOK:
                raise
