"""Cron expressions of five fields: reading them and the days they fire on (row H-03).

Minute, hour, day of month, month, weekday. Lists, ranges, steps and three-letter names in any case; Sunday
is 0 and 7; ``L`` is the last day of the month, ``LW`` its last day from Monday to Friday, ``5#3`` or
``FRI#3`` the third Friday, ``5L`` or ``FRIL`` the last one; ``?`` is ``*`` in the two day fields.
"""

from __future__ import annotations

from calendar import monthrange
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from reviews.cron_fields import DAY, HOUR, MINUTE, MONTH, WEEKDAY, CronError, Field

DayMode = Literal["and", "or"]
"""With day of month and weekday both restricted: and = a day that is both, or = a day that is either.
There is no default, since half of all cron engines take the one and half the other."""

_ALL_SHAPES = range(2000, 2028)
"""Years in which every month begins on every weekday it can, leap Februaries included."""


@dataclass(frozen=True, slots=True)
class Days:
    """What one of the two day fields says: plain numbers, last ones, and counted ones (weekday, n)."""

    numbers: frozenset[int] = frozenset()
    last: frozenset[int] = frozenset()
    counted: frozenset[tuple[int, int]] = frozenset()
    last_day: bool = False
    last_weekday: bool = False


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed expression; ``minutes`` (of the hour) and ``hours`` ascend. A day field that allows every
    day is None, however it was written."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    months: frozenset[int]
    days: Days | None
    weekdays: Days | None

    @property
    def needs_day_mode(self) -> bool:
        """Both day fields are restricted."""
        return self.days is not None and self.weekdays is not None

    def days_in(self, year: int, month: int, mode: DayMode | None) -> list[int]:
        """The days of that month it fires on, ascending. ``mode`` counts only where it is needed."""
        if month not in self.months:
            return []
        first, length = monthrange(year, month)
        return [day for day in range(1, length + 1) if self._fires(day, (first + day) % 7, length, mode)]

    def is_possible(self, mode: DayMode | None) -> bool:
        """Whether any year has a day it fires on; 31 February is on none."""
        return any(self.days_in(year, month, mode) for year in _ALL_SHAPES for month in self.months)

    def _fires(self, day: int, weekday: int, length: int, mode: DayMode | None) -> bool:
        if self.days is None:
            return self.weekdays is None or _on_weekday(self.weekdays, day, weekday, length)
        in_month = _on_day(self.days, day, weekday, length)
        if self.weekdays is None:
            return in_month
        in_week = _on_weekday(self.weekdays, day, weekday, length)
        if mode is None:
            raise CronError("day of month and weekday are both restricted and no day_mode says how they combine")
        return in_month and in_week if mode == "and" else in_month or in_week


def _on_day(days: Days, day: int, weekday: int, length: int) -> bool:
    if day in days.numbers or (days.last_day and day == length):
        return True
    if not days.last_weekday or weekday in (0, 6):
        return False
    return day == length or (weekday == 5 and day + 2 >= length)


def _on_weekday(days: Days, day: int, weekday: int, length: int) -> bool:
    return (
        weekday in days.numbers
        or (weekday, (day + 6) // 7) in days.counted
        or (weekday in days.last and day + 7 > length)
    )


@lru_cache(maxsize=4096)
def parse(expression: str) -> Cron:
    """Read an expression; raises :class:`~reviews.cron_fields.CronError` with the part that is wrong."""
    parts = expression.upper().split()
    if len(parts) != 5:
        raise CronError(f"it has {len(parts)} fields, not 5: minute, hour, day of month, month, weekday")
    return Cron(
        minutes=tuple(sorted(_numbers(parts[0], MINUTE))),
        hours=tuple(sorted(_numbers(parts[1], HOUR))),
        months=_numbers(parts[3], MONTH),
        days=_days(parts[2]),
        weekdays=_weekdays(parts[4]),
    )


def weekdays(text: str) -> frozenset[int]:
    """Plain weekdays as a cron field writes them (``MON-FRI``, ``6,7``), Sunday as 0; raises CronError."""
    return frozenset(number % 7 for number in _numbers(text.upper(), WEEKDAY))


def _numbers(text: str, field: Field) -> frozenset[int]:
    return frozenset().union(*(field.numbers(term) for term in text.split(",")))


def _days(text: str) -> Days | None:
    if text == "?":
        return None
    terms = text.split(",")
    plain = [term for term in terms if term not in ("L", "LW")]
    numbers = _numbers(",".join(plain), DAY) if plain else frozenset()
    return None if len(numbers) == len(DAY.star) else Days(numbers, last_day="L" in terms, last_weekday="LW" in terms)


def _weekdays(text: str) -> Days | None:
    if text == "?":
        return None
    terms = text.split(",")
    last = frozenset(WEEKDAY.number(term[:-1]) % 7 for term in terms if term.endswith("L"))
    counted = frozenset(_counted(term) for term in terms if "#" in term)
    plain = [term for term in terms if "#" not in term and not term.endswith("L")]
    numbers = weekdays(",".join(plain)) if plain else frozenset()
    return None if len(numbers) == len(WEEKDAY.star) else Days(numbers, last, counted)


def _counted(term: str) -> tuple[int, int]:
    weekday, _, count = term.partition("#")
    if count not in ("1", "2", "3", "4", "5"):
        raise CronError(f"in {term} the number after # is not between 1 and 5")
    return WEEKDAY.number(weekday) % 7, int(count)
