"""Consumer groups under test: how they stand, and time that passes without waiting."""

from __future__ import annotations

from typing import Any

from tests.support.running import RunningFleet


def pending(fleet: RunningFleet, group: str, stream: str = "stream:events") -> list[dict[str, Any]]:
    """What a group has given out and not got back: message_id, consumer, time_since_delivered, times_delivered."""
    found: Any = fleet.cache.xpending_range(stream, group, min="-", max="+", count=1000)
    return list(found)


def age_pending(fleet: RunningFleet, group: str, seconds: float, stream: str = "stream:events") -> None:
    """Makes everything a group has given out look as if that was so many seconds ago."""
    for one in pending(fleet, group, stream):
        age: Any = {"idle": int(seconds * 1000), "justid": True}
        fleet.cache.xclaim(stream, group, one["consumer"], 0, [one["message_id"]], **age)


def groups_of(fleet: RunningFleet, stream: str = "stream:events") -> set[str]:
    """Names of the groups of a Stream."""
    if not fleet.cache.exists(stream):
        return set()
    found: Any = fleet.cache.xinfo_groups(stream)
    return {one["name"] for one in found}
