"""Hours of the week in which a schedule may start (row H-17).

A window is ``09:00-17:30``, local wall time, end excluded, or with days before it ``MON-FRI 09:00-17:30``.
``22:00-06:00`` runs over midnight and belongs to the day it begins on; ``00:00-24:00`` is a whole day.
Several windows allow what any of them allows; none at all allow everything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
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
        return not self.windows or any(begin <= wall < end for begin, end in self._spans(wall))

    def opens_after(self, instant: datetime, tz: ZoneInfo) -> datetime | None:
        """The next opening later than ``instant``, in UTC; one in a clock gap is at its end."""
        begins = [begin for begin, _ in self._spans_at(instant, tz)]
        return min((at for begin in begins for at in _later(begin, instant, tz)), default=None)

    def closes_after(self, instant: datetime, tz: ZoneInfo) -> datetime | None:
        """The next end of any window later than ``instant``, in UTC."""
        ends = [end for _, end in self._spans_at(instant, tz)]
        return min((at for end in ends for at in _later(end, instant, tz)), default=None)

    def _spans_at(self, instant: datetime, tz: ZoneInfo) -> Iterator[tuple[datetime, datetime]]:
        return self._spans(instant.astimezone(tz).replace(tzinfo=None))

    def _spans(self, wall: datetime) -> Iterator[tuple[datetime, datetime]]:
        return (span for window in self.windows for span in window.spans(wall.date()))


def _later(wall: datetime, instant: datetime, tz: ZoneInfo) -> Iterator[datetime]:
    return (at for at in zones.instants(wall, tz, "next_valid", "both") if at > instant)


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
