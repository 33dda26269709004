"""Redis keys of the safe channel beside kombu's own."""

from __future__ import annotations

QUARANTINE = "_fleet.quarantine"
"""List of messages nobody can take, newest first; see :mod:`broker.quarantine`."""

ALIVE = "_fleet.consumers"
"""Sorted set: consumer -> when it was last known to live, by the server's clock."""

BELL_LIFE_MS = 60_000
"""A bell nobody listens to goes by itself; reply queues come and go."""

DEATHS = "x_deaths"
"""Header: how often a consumer fell silent while it held the message."""


def bell(queue: str) -> str:
    """List a publisher pushes to after its message, which wakes one idle consumer."""
    return f"_fleet.bell.{queue}"


def busy(queue: str) -> str:
    """Mark of a consumer that has just taken few messages and will soon be back. Publishers do not ring meanwhile."""
    return f"_fleet.busy.{queue}"


def owned(consumer: str) -> str:
    """Set of the delivery tags a consumer holds."""
    return f"_fleet.owned.{consumer}"


def age(tag: str) -> tuple[int, int]:
    """Sort key of a consumer's own tags: the order in which it took the messages."""
    _, _, rest = tag.partition(".")
    fetch, _, place = rest.partition(".")
    return (int(fetch), int(place)) if fetch.isdecimal() and place.isdecimal() else (0, 0)
