"""The local days a rule falls on (row H-02): one generator of dates per schedule type."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import partial

from reviews import blackouts, cron
from reviews.rule import Rule

Days = Callable[[date, date], Iterator[date]]
"""The days from the first to the last date, both included, ascending."""

_A_SUNDAY = date(2023, 1, 1)
MONDAY = 1


def days_of(rule: Rule) -> Days:
    """The days of a daily, weekly, biweekly, monthly or cron rule; ValueError for the other types."""
    match rule.schedule_type:
        case "daily":
            return partial(stepping, 1, _A_SUNDAY)
        case "weekly":
            weekday = MONDAY if rule.weekday is None else rule.weekday % 7
            return partial(stepping, 7, _A_SUNDAY + timedelta(days=weekday))
        case "biweekly" if rule.anchor_date is not None:
            return partial(_from, rule.anchor_date)
        case "monthly":
            return partial(in_months, partial(_monthly, rule))
        case "cron" if rule.cron_expression is not None:
            parsed, mode = cron.parse(rule.cron_expression), rule.day_mode
            return partial(in_months, lambda year, month: parsed.days_in(year, month, mode))
        case unknown:
            raise ValueError(f"no days for {unknown}")


def stepping(step: int, origin: date, first: date, last: date) -> Iterator[date]:
    """Every ``step`` days, ``origin`` being one of them."""
    day = first + timedelta(days=(origin - first).days % step)
    while day <= last:
        yield day
        day += timedelta(days=step)


def in_months(pick: Callable[[int, int], list[int]], first: date, last: date) -> Iterator[date]:
    """The days that ``pick`` names for each year and month."""
    for index in range(first.year * 12 + first.month - 1, last.year * 12 + last.month):
        year, month = index // 12, index % 12 + 1
        for day in pick(year, month):
            if first <= (found := date(year, month, day)) <= last:
                yield found


def last_business_day(year: int, month: int, closed: blackouts.Blackouts) -> int | None:
    """The last day from Monday to Friday that is not closed; None when the month has none."""
    length = monthrange(year, month)[1]
    for number in range(length, 0, -1):
        day = date(year, month, number)
        if day.isoweekday() <= 5 and not closed.covers_day(day):
            return number
    return None


def _from(anchor: date, first: date, last: date) -> Iterator[date]:
    return stepping(14, anchor, max(anchor, first), last)


def _monthly(rule: Rule, year: int, month: int) -> list[int]:
    if rule.last_business_day:
        found = last_business_day(year, month, blackouts.parse(rule.blackouts))
        return [] if found is None else [found]
    day, length = rule.day or 1, monthrange(year, month)[1]
    if day > length and rule.month_end == "skip":
        return []
    return [min(day, length)]
