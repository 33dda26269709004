"""The slots of a range with their starts, quick enough for every minute of a year (row H-18)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, pairwise

from reviews.jitter import jitter
from reviews.occurrences import occurrences
from reviews.placement import place
from reviews.rule import Rule

TICK = timedelta(microseconds=1)
"""The resolution of instants; turns ranges with their begin into ranges with their end."""


@dataclass(frozen=True, slots=True)
class Start:
    """A slot, and when its run starts (UTC) or the reason why it does not."""

    nominal: datetime
    start: datetime | None
    reason: str | None = None


def slots(rule: Rule, begin: datetime, end: datetime) -> Iterator[datetime]:
    """The slots in [``begin``, ``end``), both aware."""
    return occurrences(rule, begin - TICK, end - TICK)


def starts(rule: Rule, schedule_id: str, begin: datetime, end: datetime | None = None) -> Iterator[Start]:
    """The slots in [``begin``, ``end``) as :func:`reviews.placement.place` places them."""
    spread = timedelta(seconds=rule.jitter_seconds)
    placed = bool(rule.windows or rule.blackouts)
    for nominal, following in pairwise(chain(occurrences(rule, begin - TICK), (None,))):
        if nominal is None or (end is not None and nominal >= end):
            return
        if placed:
            found = place(rule, schedule_id, nominal, following)
            yield Start(nominal, found.start, found.reason)
        elif spread:
            room = spread if following is None else min(spread, following - nominal)
            yield Start(nominal, nominal + jitter(schedule_id, nominal, room))
        else:
            yield Start(nominal, nominal)
