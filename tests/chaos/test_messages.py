"""No message ends a worker, holds the others up or is lost, whatever its bytes (rows D-18, P-11).

Each of the malformed shapes as a row of PostgreSQL: ``tests/acceptance/test_malformed_messages.py``.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from sessionfleet.errors import ValidationFailed
from tests.support import RunningFleet, eventually
from tests.support.letters import push
from tests.support.malformed import flipped, shapes
from tests.support.private import private_fleets

FLIPS = int(os.environ.get("CHAOS_FLIPS", "2000"))
"""How many messages with changed bytes; 10,000 take a minute on two cores."""

SEED = int(os.environ.get("CHAOS_SEED", "1"))


@pytest.fixture(scope="module")
def fleet() -> Iterator[RunningFleet]:
    with private_fleets() as make:
        yield make(sessions=2, maintenance=1, relay=0)


class Canary(threading.Thread):
    """Asks for an answer each 100 ms, at the priority of the others, and keeps how long each took."""

    def __init__(self, fleet: RunningFleet) -> None:
        super().__init__(name="canary", daemon=True)
        self.took: list[float] = []
        self._fleet = fleet
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(0.1):
            began = time.monotonic()
            self._fleet.call("session.count", 60, message_priority="critical")
            self.took.append(time.monotonic() - began)

    def __enter__(self) -> Canary:
        self._fleet.call("session.count", 60)
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.join(70)


def executed(fleet: RunningFleet) -> int:
    """How many of the changed messages ran, in whatever way they ended."""
    logs = "".join(process.log_text() for process in fleet.of("sessions"))
    return logs.count("celery.app.trace: Task session.list[") + logs.count("Exception raised outside body")


def test_changed_bytes(fleet: RunningFleet) -> None:
    """Seeded: each message runs or is in quarantine, no worker ends, others are answered within a second [T17]."""
    workers = {process.name: process.pid for process in fleet.of("sessions")}
    sent = [*flipped(FLIPS, SEED, "sessions", "session.list"), *shapes("sessions", "session.list").values()]
    with Canary(fleet) as bird:
        for number, raw in enumerate(sent):
            push(fleet, raw)
            if number % 5 == 4:  # as fast as they are taken: a heap of good messages would hold others up, too
                eventually(lambda: fleet.broker.llen("sessions") < 5, 60, every=0.001)
        eventually(lambda: not fleet.broker.llen("sessions") and not fleet.broker.hlen("unacked"), 60)
    kept = fleet.broker.llen("_fleet.quarantine")
    eventually(lambda: kept + executed(fleet) == len(sent))
    assert FLIPS // 4 < kept < len(sent)
    assert {process.name: process.pid for process in fleet.of("sessions")} == workers
    assert len(bird.took) > 5
    assert sorted(bird.took)[int(len(bird.took) * 0.9)] < 1
    fleet.broker.delete("_fleet.quarantine")


def test_a_message_beyond_the_limit(fleet: RunningFleet) -> None:
    """64 MiB is the most. Our client refuses to send more; from elsewhere it is given to no worker but kept, cut,
    with its size [T18]."""
    large = "x" * 68_000_000
    with pytest.raises(ValidationFailed, match="larger than"):
        fleet.client.send("session.create", metadata={"large": large[: 64 * 1024 * 1024]})
    assert not fleet.broker.exists("sessions")
    fleet.broker.lpush("sessions", large)
    eventually(lambda: fleet.broker.llen("_fleet.quarantine"), 60)
    fleet.client.send("maintenance.drain_quarantine")
    eventually(lambda: not fleet.broker.llen("_fleet.quarantine"), 60)
    [letter] = fleet.call("deadletter.list", 60, reason="larger than")["items"]
    assert (letter["queue"], letter["size"]) == ("sessions", 68_000_000)
    assert len(fleet.of("sessions")) == 2
