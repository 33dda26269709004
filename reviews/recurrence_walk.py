"""From local days and times of day to instants in order, over every clock change (row H-05)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from reviews.zones import Gap, Overlap, change_at, instants, steady_offset

_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Times:
    """The times of one day, in ``minutes`` from midnight (ascending), and what a clock change does to them.

    ``hours`` are those of a cron expression, empty for other rules. When the hour that follows a change is
    among them, the expression goes on hour by hour: its times then keep their real spacing, each real
    minute whose wall time matches being a slot, and the two policies have no say. So ``*/30 * * * *``
    fires each 30 real minutes, while ``30 2 * * *`` and ``0 */6 * * *`` follow the policies.
    """

    tz: ZoneInfo
    minutes: tuple[int, ...]
    hours: frozenset[int]
    gap: Gap
    overlap: Overlap

    def at(self, wall: datetime) -> tuple[datetime, ...]:
        """The instants of one of the times, by its naive wall time."""
        change = change_at(wall, self.tz) if self.hours else None
        if change is not None and (change.end + _HOUR - _MINUTE).hour in self.hours:
            return instants(wall, self.tz, "skip", "both")
        return instants(wall, self.tz, self.gap, self.overlap)


@lru_cache(maxsize=128)
def _on_day(times: Times, midnight: datetime) -> frozenset[datetime]:
    return frozenset(instant for minute in times.minutes for instant in times.at(midnight + minute * _MINUTE))


def walk(days: Iterable[date], times: Times, after: datetime) -> Iterator[datetime]:
    """The instants (UTC, strictly ascending) later than ``after`` of the times on ``days`` (ascending).

    A gap may move a time into the next day: it then comes in its place among those, and once where it
    falls on one of them.
    """
    held: list[datetime] = []
    last = after
    for day in days:
        midnight = datetime.combine(day, time())
        offset = steady_offset(midnight, 24, times.tz)
        if offset is not None and not held:
            start = midnight.replace(tzinfo=UTC) - offset
            for minute in times.minutes[bisect_right(times.minutes, (last - start) // _MINUTE) :]:
                yield start + minute * _MINUTE
            continue
        floor = min(instants(midnight + timedelta(days=1), times.tz, "next_valid", "first"))
        ready = sorted(_on_day(times, midnight).union(held))
        held = [instant for instant in ready if instant >= floor]
        for instant in ready:
            if last < instant < floor:
                last = instant
                yield instant
    yield from (instant for instant in held if instant > last)
