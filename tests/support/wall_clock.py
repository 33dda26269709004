"""An oracle for recurrence: a zone's clock read minute by minute, without folds, offsets or our own code."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cache, cached_property
from itertools import pairwise
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)


class WallClock:
    """What the clock of a zone shows in each real minute from ``start`` up to ``end`` (UTC)."""

    def __init__(self, tz: ZoneInfo, start: datetime, end: datetime) -> None:
        minutes = [start + n * MINUTE for n in range((end - start) // MINUTE)]
        self.shown = [(instant, instant.astimezone(tz).replace(tzinfo=None)) for instant in minutes]

    @cached_property
    def instants(self) -> dict[datetime, list[datetime]]:
        """Wall time to the instants at which the clock showed it."""
        found: dict[datetime, list[datetime]] = {}
        for instant, wall in self.shown:
            found.setdefault(wall, []).append(instant)
        return found

    @cached_property
    def jumps(self) -> list[tuple[datetime, datetime, datetime]]:
        """(instant, missing from, missing up to) of each jump forward."""
        return [
            (instant, before + MINUTE, wall)
            for (_, before), (instant, wall) in pairwise(self.shown)
            if wall - before > MINUTE
        ]

    def slots(
        self,
        days: Iterable[date],
        times: Iterable[tuple[int, int]],
        gap: str,
        overlap: str,
        hours: Iterable[int] = (),
    ) -> list[datetime]:
        """What should fire for (hour, minute) on local days; ``hours`` of a cron expression.

        Times outside what was read of the clock are left out.
        """
        found: set[datetime] = set()
        times, hours = list(times), set(hours)
        for day in days:
            for hour, minute in times:
                wall = datetime.combine(day, time(hour, minute))
                if self.shown[0][1] <= wall <= self.shown[-1][1]:
                    found.update(self._at(wall, gap, overlap, hours))
        return sorted(found)

    def _at(self, wall: datetime, gap: str, overlap: str, hours: set[int]) -> Iterator[datetime]:
        instants = self.instants.get(wall, [])
        if len(instants) == 1:
            yield instants[0]
        elif instants:
            end = wall
            while len(self.instants[end]) > 1:
                end += MINUTE
            chosen = "both" if _next_full_hour(end) in hours else overlap
            yield from {"first": instants[:1], "last": instants[1:], "both": instants, "none": []}[chosen]
        else:
            instant, start, end = next(jump for jump in self.jumps if jump[1] <= wall < jump[2])
            if _next_full_hour(end) in hours or gap == "skip":
                return
            yield instant if gap == "next_valid" else self.instants[wall + (end - start)][0]


def _next_full_hour(wall: datetime) -> int:
    return wall.hour if wall.minute == 0 else (wall.hour + 1) % 24


@cache
def changes(tz: ZoneInfo, start: datetime, end: datetime) -> tuple[datetime, ...]:
    """The instants, to the minute, at which the zone's clock jumps between ``start`` and ``end``."""
    return tuple(_changes(tz, start, end))


def _changes(tz: ZoneInfo, start: datetime, end: datetime) -> Iterator[datetime]:
    step = timedelta(hours=12)
    was = _ahead(tz, start)
    while start < end:
        now = _ahead(tz, start + step)
        if now != was:
            low, high = start, start + step
            while high - low > MINUTE:
                middle = low + (high - low) // 2 // MINUTE * MINUTE
                low, high = (middle, high) if _ahead(tz, middle) == was else (low, middle)
            yield high
        start, was = start + step, now


def _ahead(tz: ZoneInfo, instant: datetime) -> timedelta:
    return instant.astimezone(tz).replace(tzinfo=UTC) - instant
