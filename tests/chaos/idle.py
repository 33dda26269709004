"""Many idle workers: what they cost while nothing happens, and how soon a single message among them starts.

``python -m tests.chaos.idle [--workers 50] [--seconds 30] [--messages 60]`` with the repository root and ``client``
on PYTHONPATH starts a fleet of its own with so many ``sessions`` workers and one relay. It measures the CPU time of
workers and Redis over so many idle seconds, then sends single messages with rests in between: half by way of a plain
Celery producer, which rings no bell, half by our client. Prints what was found; exit code 1 when a message was lost
or doubled, or when the median from sending to the transaction was beyond START.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.chaos.kills import Load
from tests.chaos.outage import effects
from tests.support.private import private_fleets
from tests.support.running import RunningFleet
from tests.support.waiting import eventually
from workers.processes import ManagedProcess

START = 0.05
"""Seconds from before the sending to the beginning of the transaction."""

REST = 0.2
"""Seconds between two messages: all has come to rest."""

AT_ONCE = 5
"""Workers that start at the same time."""


def cpu_seconds(*processes: ManagedProcess | None) -> float:
    """What they have used so far, by the kernel's count."""
    ticks = 0
    for one in processes:
        assert one is not None
        with open(f"/proc/{one.pid}/stat", encoding="ascii") as stat:  # noqa: PTH123
            ticks += sum(map(int, stat.read().rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def start(fleet: RunningFleet, count: int) -> list[ManagedProcess]:
    """So many workers that take messages."""
    made: list[ManagedProcess] = []
    while len(made) < count:
        some = [fleet.start("sessions", wait=False) for _ in range(min(AT_ONCE, count - len(made)))]
        for process in some:
            fleet.ready(process, 300)
        made += some
    return made


def idle(fleet: RunningFleet, count: int, seconds: float, messages: int) -> dict[str, Any]:
    """Measure them; the fleet has a relay and no worker yet."""
    assert fleet.servers.valkey is not None
    workers, redis = start(fleet, count), fleet.servers.valkey.process
    time.sleep(5)  # what follows a start has to end
    before = cpu_seconds(*workers), cpu_seconds(redis), calls(fleet)
    time.sleep(seconds)
    after = cpu_seconds(*workers), cpu_seconds(redis), calls(fleet)
    plain = Load(fleet.settings.broker_url, "session.create", "sessions", rate=1)
    plain.send()
    by_client(fleet)  # the first of each connects
    sent = one_by_one(fleet, plain.send, messages // 2)
    ours = one_by_one(fleet, lambda: by_client(fleet), messages // 2)
    found = effects(fleet)
    return {
        "workers": count,
        "idle_workers_cpu_percent": round((after[0] - before[0]) / seconds * 100, 2),
        "idle_redis_cpu_percent": round((after[1] - before[1]) / seconds * 100, 2),
        "idle_redis_commands_per_s": round((after[2] - before[2]) / seconds),
        "sent": len(sent) + len(ours),
        "lost": sum(mark not in found for mark in sent | ours),
        "doubled": sum(len(found.get(mark, ())) > 1 for mark in sent | ours),
        **starts("plain", sent, found),
        **starts("ours", ours, found),
    }


def calls(fleet: RunningFleet) -> int:
    """Commands that Redis has worked off."""
    return int(fleet.broker.info("stats")["total_commands_processed"])


def by_client(fleet: RunningFleet) -> str:
    """One message of our client; its mark."""
    mark = f"ours-{time.monotonic_ns()}"
    fleet.client.send("session.create", agent_id=mark)
    return mark


def one_by_one(fleet: RunningFleet, send: Callable[[], str], count: int) -> dict[str, float]:
    """Messages, each when all has come to rest: mark -> Unix time before it was sent."""
    sent = {}
    for _ in range(count):
        time.sleep(REST)
        began = time.time()
        sent[send()] = began
    eventually(lambda: sent.keys() <= effects(fleet).keys(), 60)
    return sent


def starts(kind: str, sent: dict[str, float], found: dict[str, list[float]]) -> dict[str, float]:
    """Median and worst milliseconds until the transaction."""
    times = [(found[mark][0] - began) * 1000 for mark, began in sent.items() if mark in found]
    return {f"{kind}_p50_ms": round(statistics.median(times), 1), f"{kind}_max_ms": round(max(times), 1)}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.idle", description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--messages", type=int, default=60)
    wanted = parser.parse_args()
    with private_fleets() as make:
        found = idle(make(sessions=0, relay=1), wanted.workers, wanted.seconds, wanted.messages)
    print(json.dumps(found))
    late = max(found["plain_p50_ms"], found["ours_p50_ms"]) > START * 1000
    return int(bool(found["lost"] or found["doubled"] or late))


if __name__ == "__main__":
    sys.exit(main())
