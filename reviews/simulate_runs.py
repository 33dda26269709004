"""The runs of a simulation: which are under way or wait at an instant, under each overlap policy (H-09, H-18)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from reviews.ledger import overlapping


@dataclass(slots=True)
class Runs:
    """Each run takes ``length``; ``count`` of them were started so far, and ``ends`` are those of the runs
    that may not be over."""

    overlap: str
    max_instances: int
    length: timedelta
    count: int
    ends: list[datetime] = field(default_factory=list)

    def room(self, at: datetime) -> int:
        """How many more may be started or wait."""
        self.ends = [end for end in self.ends if end > at]
        room: int = overlapping(self.overlap, self.max_instances, len(self.ends))["room"]
        return room

    def start(self, at: datetime) -> datetime:
        """Adds a run that could start then; when it does."""
        if self.overlap in ("cancel_other", "terminate_other"):
            self.ends = []
        elif self.overlap != "allow_all":
            at = max([at, *self.ends])
        self.count += 1
        self.ends.append(at + self.length)
        return at
