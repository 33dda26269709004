"""The slots of a stored schedule: what is due, what follows, what a change moves (rows H-02, H-04)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from itertools import chain

from reviews.occurrences import next_after, occurrences
from reviews.rule import Rule


def first(rule: Rule, now: datetime) -> datetime | None:
    """The first slot of a schedule that begins now; an interval's lies one period ahead."""
    return next_after(replace(rule, anchor=now), now)


def due(rule: Rule, slot: datetime, until: datetime, limit: int) -> tuple[list[datetime], datetime | None]:
    """The slots from ``slot`` (itself one) up to and with ``until``, oldest first and at most ``limit``,
    and the slot that follows them."""
    slots: list[datetime] = []
    for following in chain((slot,), occurrences(rule, slot)):
        if following > until or len(slots) == limit:
            return slots, following
        slots.append(following)
    return slots, None


def moved(old: Rule, new: Rule, next_run: datetime | None, now: datetime) -> datetime | None:
    """The next slot after a change from ``old`` to ``new``, whose due slots are settled. An interval
    keeps its grid while its period is the same, and counts from ``now`` otherwise."""
    interval = old.schedule_type == new.schedule_type == "interval"
    if interval and next_run is not None and old.period == new.period:
        return next_run if new.end_at is None or next_run <= new.end_at else None
    return first(new, now)
