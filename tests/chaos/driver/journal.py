"""Every write the driver sent, and what became of it as its sender saw it."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Literal

Outcome = Literal["open", "answered", "refused", "accepted", "unknown"]
"""``answered``: the sender has its answer. ``accepted``: sent for nobody to wait for, and the broker took it.
``refused``: a typed error that a repeat does not mend. ``unknown``: given up by its sender, or an error of the
broker, which may have taken the message nevertheless. ``open``: still tried."""


@dataclass(slots=True)
class Sent:
    """One write. ``mark`` is its actor and so stands in each row it leaves; ``key`` is its idempotency key;
    ``task_id`` is known of those that were sent without a client."""

    mark: str
    key: str
    name: str
    task_id: str = ""
    sent_at: float = field(default_factory=time.time)
    outcome: Outcome = "open"
    tries: int = 0
    copies: int = 1
    replayed: bool = False
    digest: str = ""
    settled_at: float = 0.0
    error: str = ""

    def answered(self, answer: dict[str, Any]) -> None:
        self.replayed = bool(answer.get("replayed"))
        self.digest = digest(answer)
        self.settle("answered")

    def settle(self, outcome: Outcome, error: str = "") -> None:
        self.outcome, self.error, self.settled_at = outcome, error, time.time()


def digest(answer: dict[str, Any]) -> str:
    """The same for the first answer and for its repeats."""
    kept = {name: value for name, value in answer.items() if name != "replayed"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


class Journal:
    """All of it; used by every thread of the load."""

    def __init__(self, run: str) -> None:
        self.run = run
        """Of this run; marks begin with it and sessions have it as their owner."""
        self.sent: dict[str, Sent] = {}
        self._lock = threading.Lock()
        self._count = 0

    def open(self, name: str, key: str | None = None) -> Sent:
        """A new write with a mark of its own, which is also its key unless one is given."""
        with self._lock:
            self._count += 1
            mark = f"{self.run}.{self._count}"
            entry = self.sent[mark] = Sent(mark, key or mark, name)
        return entry

    def counted(self, outcome: Outcome) -> int:
        return sum(entry.outcome == outcome for entry in self.everything())

    def everything(self) -> list[Sent]:
        with self._lock:
            return list(self.sent.values())
