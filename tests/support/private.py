"""Fleets with servers of their own, for tests that break things or need the whole database to themselves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.running import RunningFleet
from tests.support.servers import embedded_servers

PrivateFleet = Callable[..., RunningFleet]

LINES = ("sessions", "maintenance", "relay", "beat", "flower")


@contextmanager
def private_fleets() -> Iterator[PrivateFleet]:
    """A function that makes fleets; all of them end with the block. See the fixture ``private_fleet``."""
    made: list[RunningFleet] = []

    def make(**wanted: Any) -> RunningFleet:
        counts = {line: wanted.pop(line, 1 if line in ("sessions", "relay") else 0) for line in LINES}
        servers = embedded_servers()
        fleet = RunningFleet(servers, servers.database_url, **wanted)
        made.append(fleet)
        started = [fleet.start(line, wait=False) for line, count in counts.items() for _ in range(count)]
        for process in started:
            fleet.ready(process)
        return fleet

    try:
        yield make
    finally:
        for fleet in made:
            fleet.close(gently=False)
            fleet.servers.close()
