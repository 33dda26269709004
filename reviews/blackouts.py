"""Calendars of days and hours in which nothing starts (row H-17).

An entry is text in the schedule's local time:

- ``2026-12-24`` a day; ``2026-12-24/2027-01-01`` days, both included;
- ``12-25`` or ``12-24/01-01`` the same in every year, over the new year too;
- ``2026-12-24T18:00/2026-12-27T06:00`` from the first wall time up to, not with, the second.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from functools import lru_cache
from typing import TypeVar

_YEARLY = re.compile(r"\d\d-\d\d")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?")

_Point = TypeVar("_Point", date, datetime)

MAX_ENTRIES = 1000


class BlackoutError(ValueError):
    """An entry cannot be read; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Blackouts:
    """A parsed calendar: spans of days, of month-and-day pairs, and of wall times."""

    days: tuple[tuple[date, date], ...] = ()
    yearly: tuple[tuple[str, str], ...] = ()
    times: tuple[tuple[datetime, datetime], ...] = ()

    def covers_day(self, day: date) -> bool:
        """Whether the whole of that local day is blacked out."""
        return bool(self.days or self.yearly) and _covers_day(self, day)

    def covers(self, wall: datetime) -> bool:
        """Whether that local wall time (naive) is blacked out."""
        return self.covers_day(wall.date()) or any(start <= wall < end for start, end in self.times)


# A year of minutes asks for each day over a thousand times.
@lru_cache(maxsize=1024)
def _covers_day(closed: Blackouts, day: date) -> bool:
    if any(first <= day <= last for first, last in closed.days):
        return True
    name = f"{day:%m-%d}"
    return any(_within(name, first, last) for first, last in closed.yearly)


def _within(name: str, first: str, last: str) -> bool:
    return first <= name <= last if first <= last else name >= first or name <= last


@lru_cache(maxsize=1024)
def parse(entries: tuple[str, ...]) -> Blackouts:
    """Read a calendar; raises :class:`BlackoutError`."""
    if len(entries) > MAX_ENTRIES:
        raise BlackoutError(f"{len(entries)} entries are more than {MAX_ENTRIES}")
    days: list[tuple[date, date]] = []
    yearly: list[tuple[str, str]] = []
    times: list[tuple[datetime, datetime]] = []
    for entry in entries:
        try:
            _read(entry, days, yearly, times)
        except ValueError as error:
            raise BlackoutError(f"{entry!r}: {error}") from None
    return Blackouts(tuple(days), tuple(yearly), tuple(times))


def _read(
    entry: str,
    days: list[tuple[date, date]],
    yearly: list[tuple[str, str]],
    times: list[tuple[datetime, datetime]],
) -> None:
    first, slash, last = entry.partition("/")
    last = last if slash else first
    if _DAY.fullmatch(first) and _DAY.fullmatch(last):
        days.append(_forward(date.fromisoformat(first), date.fromisoformat(last)))
    elif _YEARLY.fullmatch(first) and _YEARLY.fullmatch(last):
        for day in (first, last):
            date.fromisoformat(f"2000-{day}")  # a leap year: 29 February is a day that may be named
        yearly.append((first, last))
    elif slash and _TIME.fullmatch(first) and _TIME.fullmatch(last):
        times.append(_forward(datetime.fromisoformat(first), datetime.fromisoformat(last)))
    else:
        raise ValueError("is neither a day, a span of days, a yearly day nor a span of wall times")


def _forward(first: _Point, last: _Point) -> tuple[_Point, _Point]:
    if last < first:
        raise ValueError("ends before it begins")
    return first, last
