"""Callers: threads that live sessions from their creation to their end, each step until it is answered."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from typing import Any

from sessionfleet import Fleet
from sessionfleet.errors import CallTimeout, FleetError
from tests.chaos.driver.journal import Journal

PATIENCE, MOST_PATIENCE = 4.0, 32.0
"""Seconds a caller waits for an answer before it repeats the call with the same key, doubling: a repeat is one
message more."""

GIVES_UP = 0.01
"""Share of callers that drop a call at its first error instead of repeating it."""

STEPS: list[tuple[str, dict[str, Any]]] = [
    ("session.update", {}),
    ("session.update_metrics", {"metrics": {"n": 1}}),
    ("session.append_output", {"content": "line\n"}),
    ("session.emit_event", {"type": "noted", "payload": {"a": [1, None, "é"]}}),
]
"""Of an active session; each but the metrics, which only add up, leaves one event."""

TURNS: list[list[tuple[str, dict[str, Any]]]] = [
    [("session.pause", {"reason": "p"}), ("session.resume", {})],
    [("session.idle", {}), ("session.resume", {})],
    [("session.wait_input", {}), ("session.set_status", {"status": "active"})],
    [("session.interrupt", {}), ("session.recover", {})],
]
"""Ways out of active and back; one event each way."""

ENDS = [("session.complete", {}), ("session.terminate", {}), ("session.fail", {"error": "e"})]


class Caller(threading.Thread):
    """One thread with a client that others may share; ``rate``: operations per second, at most.

    ``lives`` are the sessions whose every step was answered: id and the marks of its events in their order. A
    typed refusal is a finding: nobody else writes to these sessions.
    """

    def __init__(self, number: int, client: Fleet, journal: Journal, seed: int, rate: float) -> None:
        super().__init__(name=f"caller-{number}", daemon=True)
        self.lives: list[tuple[str, list[str]]] = []
        self.refusals: list[str] = []
        self.failure: BaseException | None = None
        self._client = client
        self._journal = journal
        self._random = random.Random(f"{seed}/{number}")
        self._pause = 1 / rate
        self._due = time.monotonic()
        self._over = threading.Event()

    def finish(self) -> None:
        """No new life; the one under way is lived to its end."""
        self._over.set()

    def run(self) -> None:
        try:
            while not self._over.is_set():
                self._live()
        except BaseException as error:  # noqa: BLE001 - shown in the report
            self.failure = error

    def _live(self) -> None:
        session_id, marks = "", []
        for name, arguments in self._plan():
            more = {"session_id": session_id} if session_id else {"owner_id": self._journal.run}
            mark, answer = self._until_answered(name, {**arguments, **more})
            if answer is None:
                return  # given up in the middle: nobody can say what comes next
            session_id = session_id or answer["id"]
            if name != "session.update_metrics":
                marks.append(mark)
        self.lives.append((session_id, marks))

    def _plan(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Steps in an order that must succeed."""
        yield "session.create", {"context": {"n": self._random.random()}}
        yield "session.start", {}
        for number in range(self._random.randint(2, 12)):
            if self._random.random() < 0.2:
                yield from self._random.choice(TURNS)
                continue
            name, arguments = self._random.choice(STEPS)
            # Metadata that stays the same would be no change, and leave nothing.
            yield name, {"metadata": {"step": number}} if name == "session.update" else arguments
        yield self._random.choice(ENDS)

    def _until_answered(self, name: str, arguments: dict[str, Any]) -> tuple[str, dict[str, Any] | None]:
        entry = self._journal.open(name)
        gives_up = self._random.random() < GIVES_UP
        self._keep_pace()
        patience = PATIENCE
        while True:
            entry.tries += 1
            try:
                answer = self._client.call(name, patience, idempotency_key=entry.key, actor=entry.mark, **arguments)
            except FleetError as error:
                if not error.retryable:
                    entry.settle("refused", str(error))
                    self.refusals.append(f"{entry.mark} {name}: {error}")
                    return entry.mark, None
                if gives_up:
                    entry.settle("unknown", str(error))
                    return entry.mark, None
                entry.error = str(error)
                if isinstance(error, CallTimeout):
                    patience = min(patience * 2, MOST_PATIENCE)
                time.sleep(min(0.05 * 2**entry.tries, 1.0))
                continue
            entry.answered(answer)
            return entry.mark, answer

    def _keep_pace(self) -> None:
        self._due = max(self._due + self._pause, time.monotonic() - 1)
        time.sleep(max(0.0, self._due - time.monotonic()))
