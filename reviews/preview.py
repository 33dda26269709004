"""What a schedule will do: its next slots, and the slots of a range (rows H-04, H-18). Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from reviews import cron, zones
from reviews.rule import Rule
from reviews.starts import TICK, Start, starts
from reviews.subject import Subject
from sessionfleet.errors import ValidationFailed

Document = dict[str, Any]

MAX_DAYS = timedelta(days=366, hours=1)
"""The longest range: a leap year of a zone, whatever its clock does."""

MAX_SLOTS = 600_000
"""Slots of one range: a year of minutes has 527,040."""


def head(subject: Subject) -> Document:
    """What every view says about its schedule."""
    return {
        "schedule_id": subject.schedule_id or None,
        "schedule_type": subject.rule.schedule_type,
        "timezone": subject.rule.timezone,
        "enabled": subject.enabled,
    }


def next_run(subject: Subject, after: datetime, limit: int) -> Document:
    """The first ``limit`` slots later than ``after`` (aware), those that would be skipped with their reason."""
    found = list(islice(starts(subject.rule, subject.schedule_id, after + TICK), limit))
    return {**head(subject), "after": after.isoformat(), "items": _items(subject.rule, found)}


def preview(subject: Subject, begin: datetime, end: datetime, limit: int) -> Document:
    """The slots in [``begin``, ``end``) and their counts per local day; at most ``limit`` of them as items.

    Raises ValidationFailed for a range with more than MAX_SLOTS.
    """
    tz = zones.zone(subject.rule.timezone)
    days: dict[str, Document] = {}
    skipped: Counter[str] = Counter()
    shown: list[Start] = []
    total, rest = 0, None
    for one in bounded(starts(subject.rule, subject.schedule_id, begin, end)):
        total += 1
        day = days.setdefault(one.nominal.astimezone(tz).date().isoformat(), {"runs": 0, "skipped": 0})
        if one.reason is None:
            day["runs"] += 1
        else:
            day["skipped"] += 1
            skipped[one.reason] += 1
        if len(shown) < limit:
            shown.append(one)
        elif rest is None:
            rest = one.nominal.isoformat()
    return {
        **head(subject),
        "start": begin.isoformat(),
        "end": end.isoformat(),
        "total": total,
        "runs": total - skipped.total(),
        "skipped": dict(skipped),
        "days": days,
        "items": _items(subject.rule, shown),
        "next_start": rest,
    }


def span(
    subject: Subject, year: int | None, start: datetime | None, end: datetime | None, now: datetime
) -> tuple[datetime, datetime]:
    """Begin and end of a range in UTC: of a local year, or as given. Raises ValidationFailed for one that is
    empty or longer than MAX_DAYS."""
    if year is not None:
        start, end = datetime(year, 1, 1), datetime(year + 1, 1, 1)  # noqa: DTZ001 - wall time
    begin = now if start is None else subject.instant(start)
    until = begin + timedelta(days=366) if end is None else subject.instant(end)
    if until <= begin:
        raise ValidationFailed.of("end", "is not after the begin of the range")
    if until - begin > MAX_DAYS:
        raise ValidationFailed.of("end", "is more than 366 days after the begin of the range")
    return begin, until


def bounded(found: Iterator[Start]) -> Iterator[Start]:
    """``found``, or ValidationFailed once there are more than MAX_SLOTS."""
    for count, one in enumerate(found):
        if count >= MAX_SLOTS:
            raise ValidationFailed.of(
                "end", f"the range has more than {MAX_SLOTS:,} slots; end it by {one.nominal.isoformat()}"
            )
        yield one


def item(one: Start, tz: ZoneInfo) -> Document:
    """A slot in an answer."""
    return {
        "nominal_utc": one.nominal.isoformat(),
        "local": one.nominal.astimezone(tz).isoformat(),
        "start_utc": None if one.start is None else one.start.isoformat(),
        "reason": one.reason,
    }


def note(rule: Rule, nominal: datetime, before: datetime | None) -> str | None:
    """What a clock change has to do with a slot; ``before`` is the slot before it."""
    tz = zones.zone(rule.timezone)
    local = nominal.astimezone(tz)
    change = zones.change_at(local.replace(tzinfo=None, fold=0), tz)
    if change is not None and not change.is_gap:
        which = "second" if local.fold else "first"
        return f"{local:%H:%M} comes twice that day; this is the {which} one"
    if not _is_own_time(rule, local):
        return "its own time is missing that day: the clock jumps over it"
    if before is not None and before.astimezone(tz).utcoffset() != local.utcoffset():
        return f"the clock has changed since the slot before, to UTC{local.isoformat()[-6:]}"
    return None


def _is_own_time(rule: Rule, local: datetime) -> bool:
    if rule.schedule_type == "interval":
        return True
    if rule.schedule_type == "cron":
        parsed = cron.parse(rule.cron_expression or "")
        return local.hour in parsed.hours and local.minute in parsed.minutes
    if rule.schedule_type == "one_time":
        given = datetime.fromisoformat(rule.scheduled_time or "")
        return given.tzinfo is not None or given == local.replace(tzinfo=None)
    return (local.hour, local.minute) == (rule.hour, rule.minute)


def _items(rule: Rule, found: list[Start]) -> list[Document]:
    tz = zones.zone(rule.timezone)
    before = [None, *(one.nominal for one in found)]
    return [
        {**item(one, tz), "note": note(rule, one.nominal, earlier)}
        for one, earlier in zip(found, before, strict=False)
    ]
