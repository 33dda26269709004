"""Hours of the week in which a schedule may start (row H-17).

A window is ``09:00-17:30``, local wall time, end excluded, or with days before it ``MON-FRI 09:00-17:30``.
``22:00-06:00`` runs over midnight and belongs to the day it begins on; ``00:00-24:00`` is a whole day.
Several windows allow what any of them allows; none at all allow everything.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from reviews import cron, zones
from reviews.cron_fields import CronError

_TEXT = re.compile(r"(?:(\S+) +)?(\d\d):(\d\d)-(\d\d):(\d\d)")
_DAY = timedelta(days=1)
_WEEK = 7

MAX_WINDOWS = 50


class WindowError(ValueError):
    """A window cannot be read; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Window:
    """``start`` and ``length`` from local midnight on the given weekdays (Sunday is 0)."""

    weekdays: frozenset[int]
    start: timedelta
    length: timedelta

    def spans(self, day: date) -> Iterator[tuple[datetime, datetime]]:
        """Naive begin and end of the windows that may touch ``day`` or the week after it."""
        for ahead in range(-1, _WEEK + 1):
            begun = day + ahead * _DAY
            if begun.isoweekday() % _WEEK in self.weekdays:
                begin = datetime.combine(begun, time()) + self.start
                yield begin, begin + self.length


@dataclass(frozen=True, slots=True)
class Windows:
    """Parsed windows."""

    windows: tuple[Window, ...] = ()

    def is_open(self, wall: datetime) -> bool:
        """Whether a start is allowed at that naive local time."""
        return not self.windows or any(begin <= wall < end for begin, end in _spans(self, wall.date()))

    def opens_after(self, instant: datetime, tz: ZoneInfo) -> datetime | None:
        """The next opening later than ``instant``, in UTC; one in a clock gap is at its end, if it lasts longer."""
        return _first_after(instant, _edges(self, instant.astimezone(tz).date(), tz)[0])

    def closes_after(self, instant: datetime, tz: ZoneInfo) -> datetime | None:
        """The next end of any window later than ``instant``, in UTC."""
        return _first_after(instant, _edges(self, instant.astimezone(tz).date(), tz)[1])


# A year of minutes asks for each day over a thousand times.
@lru_cache(maxsize=1024)
def _spans(windows: Windows, day: date) -> tuple[tuple[datetime, datetime], ...]:
    """Naive begin and end of all windows that may touch ``day`` or the week after it."""
    return tuple(span for window in windows.windows for span in window.spans(day))


@lru_cache(maxsize=1024)
def _edges(windows: Windows, day: date, tz: ZoneInfo) -> tuple[list[datetime], list[datetime]]:
    """Their openings and closings in UTC, each in order."""
    begins, ends = zip(*_spans(windows, day), strict=True) if windows.windows else ((), ())
    openings = [at for at in _instants(begins, tz) if windows.is_open(at.astimezone(tz).replace(tzinfo=None))]
    return openings, _instants(ends, tz)


def _instants(walls: Iterable[datetime], tz: ZoneInfo) -> list[datetime]:
    return sorted(at for wall in walls for at in zones.instants(wall, tz, "next_valid", "both"))


def _first_after(instant: datetime, ordered: list[datetime]) -> datetime | None:
    place = bisect_right(ordered, instant)
    return ordered[place] if place < len(ordered) else None


@lru_cache(maxsize=1024)
def parse(texts: tuple[str, ...]) -> Windows:
    """Read windows; raises :class:`WindowError`."""
    if len(texts) > MAX_WINDOWS:
        raise WindowError(f"{len(texts)} windows are more than {MAX_WINDOWS}")
    return Windows(tuple(_window(text) for text in texts))


def _window(text: str) -> Window:
    found = _TEXT.fullmatch(text.strip())
    if found is None:
        raise WindowError(f"{text!r} is not written like 'MON-FRI 09:00-17:30'")
    days, *numbers = found.groups()
    start_hour, start_minute, end_hour, end_minute = map(int, numbers)
    start, end = timedelta(hours=start_hour, minutes=start_minute), timedelta(hours=end_hour, minutes=end_minute)
    if max(start_minute, end_minute) > 59 or start >= _DAY or end > _DAY or start == end:
        raise WindowError(f"{text!r} is not two different times of day, 24:00 being an end only")
    try:
        weekdays = cron.weekdays(days or "*")
    except CronError as error:
        raise WindowError(f"{text!r}: {error}") from None
    return Window(weekdays, start, end - start if start < end else end - start + _DAY)
