"""When a rule fires: pure functions, no clock (rows H-02, H-04, H-05).

A slot is named by its nominal instant. Jitter, windows and blackouts do not move it; what they do to its
start says :mod:`reviews.placement`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from reviews import cron, zones
from reviews.recurrence_days import Days, days_of
from reviews.recurrence_walk import Times, walk
from reviews.rule import Rule

HORIZON = timedelta(days=36525)
"""How far ahead a next slot is looked for. A 29 February on a given weekday can be 40 years away."""

_DAY = timedelta(days=1)
_BEGIN = datetime.min.replace(tzinfo=UTC) + 8 * _DAY
_END = datetime.max.replace(tzinfo=UTC) - 8 * _DAY


def occurrences(rule: Rule, after: datetime, until: datetime | None = None) -> Iterator[datetime]:
    """The slots in (``after``, ``until``], strictly ascending, in UTC.

    Windows of time that touch thus neither share nor lose a slot. Without ``until`` they end at the rule's
    ``end_at`` or 100 years on. ``after`` and ``until`` are aware (ValueError otherwise), and the rule is one
    that :func:`reviews.rule_check.check` accepts. A year of a minute schedule takes well under a second.
    """
    if after.tzinfo is None or (until is not None and until.tzinfo is None):
        raise ValueError("an instant without an offset")
    after = max(after.astimezone(UTC), _BEGIN)
    horizon = _END if after > _END - HORIZON else after + HORIZON
    last = min(end for end in (until, rule.end_at, horizon) if end is not None)
    if last <= after:
        return
    for slot in _slots(rule, after, last.astimezone(UTC)):
        if slot > last:
            return
        yield slot


def next_after(rule: Rule, instant: datetime) -> datetime | None:
    """The first slot later than ``instant`` (aware), in UTC; None when there is none within 100 years."""
    return next(occurrences(rule, instant), None)


def one_time(rule: Rule) -> datetime | None:
    """The instant of a one_time rule; None when its wall time is missing and ``dst_gap`` skips it, or
    when it comes twice and ``dst_overlap`` is none. ValueError for text that is no ISO 8601 time."""
    given = datetime.fromisoformat(rule.scheduled_time or "")
    if given.tzinfo is not None:
        return given.astimezone(UTC)
    found = zones.instants(given, zones.zone(rule.timezone), rule.dst_gap, rule.dst_overlap)
    return found[0] if found else None


def _slots(rule: Rule, after: datetime, last: datetime) -> Iterator[datetime]:
    """Slots later than ``after`` in order; they may run past ``last``."""
    match rule.schedule_type:
        case "interval":
            yield from _interval(rule, after, last)
        case "one_time":
            slot = one_time(rule)
            if slot is not None and slot > after:
                yield slot
        case _:
            days, times = _compiled(rule)
            begin, end = after.astimezone(times.tz).date(), last.astimezone(times.tz).date()
            # A clock change may carry a time into the day after it, never further.
            yield from walk(days(begin - _DAY, end + _DAY), times, after)


def _interval(rule: Rule, after: datetime, last: datetime) -> Iterator[datetime]:
    if rule.anchor is None:
        raise ValueError("an interval needs an anchor")
    anchor, period = rule.anchor.astimezone(UTC), rule.period
    for n in range((after - anchor) // period + 1, (last - anchor) // period + 1):
        yield anchor + n * period


@lru_cache(maxsize=4096)
def _compiled(rule: Rule) -> tuple[Days, Times]:
    hours: tuple[int, ...] = (rule.hour,)
    minutes: tuple[int, ...] = (rule.minute,)
    if rule.schedule_type == "cron":
        parsed = cron.parse(rule.cron_expression or "")
        hours, minutes = parsed.hours, parsed.minutes
    times = Times(
        tz=zones.zone(rule.timezone),
        minutes=tuple(hour * 60 + minute for hour in hours for minute in minutes),
        hours=frozenset(hours) if rule.schedule_type == "cron" else frozenset(),
        gap=rule.dst_gap,
        overlap=rule.dst_overlap,
    )
    return days_of(rule), times
