"""Redis gone for a minute while callers go on calling: how long it keeps them, and what is left of it (T6, B-12).

``python -m tests.chaos.outage [--seconds 60] [--rate 20]`` with the repository root and ``client`` on PYTHONPATH
starts servers and a worker of its own. One caller has a buffer (``connect(buffer=...)``) and hands over so many
messages a second; the other has none, is refused by ``submit_timeout`` at the latest, and repeats with the same
idempotency key until it is not. Redis is stopped and started again under both. Prints what was found; exit code 1
when an operation was lost or doubled, when the buffered caller waited longer than ACCEPT (p99), the other one longer
than its time-out, or when the first message after the return of Redis took longer than RESUME.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from sqlalchemy import text

from sessionfleet import Fleet
from sessionfleet.errors import Unavailable
from tests.support.private import private_fleets
from tests.support.running import RunningFleet
from tests.support.waiting import eventually

ACCEPT = 0.05
"""Seconds for a message to be accepted by a buffer, at the 99th percentile; the first one finds out and waits."""

SUBMIT = 2.0
SLACK = 0.5
"""Seconds beyond submit_timeout: a busy machine wakes threads late."""

BEFORE = 2.0
"""Seconds of load before Redis is stopped, and after it is back."""

RESUME = 2.0
"""Seconds from the return of Redis to the first effect of a message: worker and buffer try at least once a second,
however long the outage was."""

DRAIN = 120.0


class Caller(threading.Thread):
    """Creates sessions at a rate until told to stop; ``waits`` are the seconds each call kept it."""

    def __init__(self, client: Fleet, name: str, rate: float) -> None:
        super().__init__(name=name, daemon=True)
        self.client = client
        self.marks: list[str] = []
        self.waits: list[float] = []
        self.refused = 0
        self.failed: Exception | None = None
        self._pause = 1 / rate
        self._over = threading.Event()

    def run(self) -> None:
        due = time.monotonic()
        try:
            while not self._over.wait(max(0.0, due - time.monotonic())):
                mark = f"{self.name}-{len(self.marks)}"
                self.marks.append(mark)
                while not self.accepted(mark):
                    self.refused += 1
                due = max(due + self._pause, time.monotonic() - 1)
        except Exception as error:  # noqa: BLE001 - shown by stop()
            self.failed = error

    def accepted(self, mark: str) -> bool:
        """One call; whether it was not refused."""
        began = time.monotonic()
        try:
            self.client.send("session.create", agent_id=mark, idempotency_key=mark)
        except Unavailable:
            return False
        finally:
            self.waits.append(time.monotonic() - began)
        return True

    def stop(self) -> None:
        """Ends it after the call under way; raises what ended it before."""
        self._over.set()
        self.join(DRAIN)
        if self.failed is not None:
            raise self.failed


def outage(fleet: RunningFleet, seconds: float, rate: float) -> dict[str, Any]:
    """Stop Redis for so long under both callers; what was found."""
    valkey = fleet.servers.valkey
    assert valkey is not None
    with connect(fleet, buffer=100_000) as patient, connect(fleet, buffer=0) as plain:
        callers = Caller(patient, "buffered", rate), Caller(plain, "plain", rate)
        for caller in callers:
            caller.start()
        time.sleep(BEFORE)  # the load has to last
        valkey.stop()
        time.sleep(seconds)  # the fault has to last
        valkey.start()
        back = time.time()
        waiting = {mark for caller in callers for mark in caller.marks}
        time.sleep(BEFORE)
        for caller in callers:
            caller.stop()
        unsent = patient.flush(DRAIN)
        marks = [mark for caller in callers for mark in caller.marks]
        in_vain(lambda: len(effects(fleet).keys() & set(marks)) == len(marks))
    found = effects(fleet)
    after = sorted(at - back for times in found.values() for at in times if at > back)
    buffered, refused = (sorted(caller.waits) for caller in callers)
    return {
        "seconds": seconds,
        "sent": len(marks),
        "lost": sum(mark not in found for mark in marks),
        "doubled": sum(len(found.get(mark, ())) > 1 for mark in marks),
        "unsent": len(unsent),
        "buffered_p50_ms": round(buffered[len(buffered) // 2] * 1000, 2),
        "buffered_p99_ms": round(buffered[int(len(buffered) * 0.99) - 1] * 1000, 2),
        "buffered_max_ms": round(buffered[-1] * 1000, 1),
        "refused": callers[1].refused,
        "plain_max_ms": round(refused[-1] * 1000, 1),
        "resumed_s": round(after[0], 2),
        "drained_s": round(max(found[mark][0] for mark in waiting if mark in found) - back, 2),
    }


@contextmanager
def connect(fleet: RunningFleet, buffer: int) -> Any:
    """A client of the fleet with that buffer."""
    settings = fleet.settings
    client = Fleet.connect(
        broker_url=settings.broker_url,
        result_url=settings.result_url,
        cache_url=settings.cache_url,
        channel_prefix=settings.channel_prefix,
        submit_timeout=SUBMIT,
        buffer=buffer,
    )
    with client:
        yield client


def effects(fleet: RunningFleet) -> dict[str, list[float]]:
    """When sessions were created, in seconds since the epoch, by mark."""
    found: dict[str, list[float]] = {}
    with fleet.engine.connect() as db:
        for mark, at in db.execute(text("SELECT agent_id, extract(epoch FROM created_at) FROM sessions")):
            found.setdefault(str(mark), []).append(float(at))
    return found


def in_vain(true: Callable[[], object]) -> None:
    """As :func:`eventually`; what is missing is counted later."""
    try:
        eventually(true, DRAIN, every=0.2)
    except AssertionError:
        return


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.outage", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=20, help="messages a second of each of the two callers")
    wanted = parser.parse_args()
    with private_fleets() as make:
        found = outage(make(sessions=1, relay=0), wanted.seconds, wanted.rate)
    print(json.dumps(found))
    late = (
        found["buffered_p99_ms"] > ACCEPT * 1000
        or found["plain_max_ms"] > (SUBMIT + SLACK) * 1000
        or found["resumed_s"] > RESUME
    )
    return int(bool(found["lost"] or found["doubled"] or found["unsent"] or late))


if __name__ == "__main__":
    sys.exit(main())
