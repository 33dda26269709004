"""What RedBeat holds: a handful of fixed UTC intervals and nothing else (rows H-20, P-10).

Users' schedules live in PostgreSQL and are found by ``dispatch_due``. Old and new release carry the
same entry names: a beat that only stands by writes its own into Redis as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

SUFFIX = "_interval"


@dataclass(frozen=True, slots=True)
class Entry:
    """One periodic duty: entry name, task, queue and how often by default, in seconds."""

    name: str
    task: str
    seconds: int
    queue: str = "maintenance"


ENTRIES: tuple[Entry, ...] = (
    Entry("timeout_warnings", "maintenance.timeout_warnings", 60),
    Entry("cleanup_stale", "maintenance.cleanup_stale", 300),
    Entry("drain_outbox", "maintenance.drain_outbox", 1),
    Entry("drain_quarantine", "maintenance.drain_quarantine", 5),
    Entry("dispatch_due", "schedule.dispatch_due", 1),
    Entry("scan_schedules", "schedule.scan", 300),
    Entry("partition_maintain", "maintenance.partition_maintain", 3600),
    Entry("index_contexts", "maintenance.index_contexts", 60),
    Entry("sum_counts", "maintenance.sum_counts", 60),
    Entry("purge_old", "maintenance.purge_old", 86400),
)


def beat_schedule(intervals: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Celery's ``beat_schedule``. ``intervals`` has seconds by ``{name}_interval``; a name it lacks
    keeps its default. A message that no worker took within its interval expires: the next one is
    there by then, and nothing piles up behind an outage; nobody reads the results of ticks."""
    schedule = {}
    for entry in ENTRIES:
        seconds = intervals.get(entry.name + SUFFIX, entry.seconds)
        schedule[entry.name] = {
            "task": entry.task,
            "schedule": timedelta(seconds=seconds),
            "options": {"queue": entry.queue, "expires": seconds, "ignore_result": True},
        }
    return schedule
