"""Local wall time to instants, with a stated answer for clock changes (row H-05).

Zones come from the ``tzdata`` distribution and never from the machine: all processes of a release
then agree on every slot, whatever their operating systems know of the latest laws.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Literal
from zoneinfo import ZoneInfo

import tzdata

Gap = Literal["shift", "next_valid", "skip"]
"""Of a wall time that the clock jumps over. shift: as much later as the jump is long (02:30 -> 03:30);
next_valid: the first instant after the jump (03:00); skip: not that day."""

Overlap = Literal["first", "last", "both", "none"]
"""Of a wall time that the clock shows twice: which of the two instants it stands for."""

TZDATA_VERSION: str = tzdata.IANA_VERSION
"""Release of the zone rules in use, as the IANA names it. Slots that were computed under another one
may have moved and are computed anew."""

_NAME = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+){0,2}")


class UnknownZone(ValueError):
    """No IANA zone has this name."""


@cache
def zone(name: str) -> ZoneInfo:
    """The IANA zone of that name, case as written there; raises :class:`UnknownZone`.

    ``ZoneInfo`` objects from here are not equal to those that the class itself looks up.
    """
    if not _NAME.fullmatch(name):
        raise UnknownZone(name)
    try:
        with files("tzdata.zoneinfo").joinpath(*name.split("/")).open("rb") as file:
            return ZoneInfo.from_file(file, key=name)
    except (OSError, ValueError):
        raise UnknownZone(name) from None


@dataclass(frozen=True, slots=True)
class Change:
    """The instant ``at`` (UTC) from which a zone's offset is ``after`` instead of ``before``."""

    at: datetime
    before: timedelta
    after: timedelta

    @property
    def is_gap(self) -> bool:
        """Whether the clock jumps forward, so that wall times are missing."""
        return self.after > self.before

    @property
    def end(self) -> datetime:
        """The wall time (naive) at which missing or repeated times are over."""
        return self.at.replace(tzinfo=None) + max(self.before, self.after)


def change_at(wall: datetime, tz: ZoneInfo) -> Change | None:
    """The change because of which ``wall`` (naive) is missing or repeated; None for any other wall time."""
    before, after = _offset(wall, tz, 0), _offset(wall, tz, 1)
    if before == after:
        return None
    utc = wall.replace(tzinfo=UTC)
    old, new = sorted((utc - before, utc - after))  # one on each side of the change, in a gap as well
    while new - old > timedelta(seconds=1):
        middle = old + (new - old) // 2
        if middle.astimezone(tz).utcoffset() == after:
            new = middle
        else:
            old = middle
    return Change(new.replace(microsecond=0), before, after)


def instants(wall: datetime, tz: ZoneInfo, gap: Gap = "shift", overlap: Overlap = "first") -> tuple[datetime, ...]:
    """The instants (UTC, ascending) that the naive ``wall`` stands for: one, or what the policies say."""
    utc = wall.replace(tzinfo=UTC)
    first, last = utc - _offset(wall, tz, 0), utc - _offset(wall, tz, 1)
    if first == last:
        return (first,)
    if first < last:
        choice: dict[Overlap, tuple[datetime, ...]] = {
            "first": (first,),
            "last": (last,),
            "both": (first, last),
            "none": (),
        }
        return choice[overlap]
    if gap == "next_valid":
        change = change_at(wall, tz)
        return () if change is None else (change.at,)
    return (first,) if gap == "shift" else ()  # read with the old offset, a missing time is moved by the jump


def steady_offset(wall: datetime, hours: int, tz: ZoneInfo) -> timedelta | None:
    """The offset of the ``hours`` that follow ``wall`` (naive), or None when the clock changes in them.

    Two changes within a day that cancel each other are taken for none; no zone has had such a day since 1970.
    """
    offset = _offset(wall, tz, 0)
    end = wall + timedelta(hours=hours)
    others = (_offset(wall, tz, 1), _offset(end, tz, 0), _offset(end, tz, 1))
    return offset if all(other == offset for other in others) else None


def _offset(wall: datetime, tz: ZoneInfo, fold: int) -> timedelta:
    offset = wall.replace(tzinfo=tz, fold=fold).utcoffset()
    if offset is None:
        raise UnknownZone(str(tz))
    return offset
