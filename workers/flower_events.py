"""Flower's view of tasks that ran together: an event counts for as many tasks as it stands for (row R-08).

:mod:`broker.tidings` tells of a crowd once per kind of task, with the number in the event's field ``count``. Stock
Flower would count one of them.
"""

from __future__ import annotations

from typing import Any

from flower import events
from flower.events import EventsState


class CountingState(EventsState):  # type: ignore[misc]
    """As the base; workers' counters and the metric ``flower_events_total`` count all tasks of an event."""

    def event(self, event: dict[str, Any]) -> None:
        """Take over one event."""
        super().event(event)
        kind, worker, more = event["type"], event["hostname"], _count(event) - 1
        if more > 0 and kind.startswith("task-"):
            self.counter[worker][kind] += more
            name = event.get("name") or self.tasks[event["uuid"]].name or ""
            self.metrics.events.labels(worker, kind, name).inc(more)


def install() -> None:
    """Have Flowers of this process count so."""
    events.EventsState = CountingState


def _count(event: dict[str, Any]) -> int:
    """The tasks an event stands for; anybody can send events, so anything else is one."""
    count = event.get("count", 1)
    return count if isinstance(count, int) and 1 <= count <= 10_000 else 1
