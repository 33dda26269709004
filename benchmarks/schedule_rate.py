"""How late scheduled reviews are when many slots are due in the same second, and what a tick costs.

Run ``python benchmarks/schedule_rate.py [--slots 1000] [--owners 100] [--json]`` with the repository root and
``client`` on PYTHONPATH. Starts PostgreSQL (fsync and synchronous_commit on), Valkey, one maintenance worker of two
processes and beat, then:

- fleet: that many schedules come due at one instant. Printed is how late their runs started and, of all of
  them, when the last had ended. Their messages are on their way before the instant, with it as their start.
- found late: the same number of slots that nobody has looked at, settled and sent by one tick of one process.
  Printed is how long after the begin of the tick each message was sent.
- tick: the time of one tick with 10 slots due among 1,000 and among 100,000 enabled schedules, medians of
  rounds in turn, and their ratio. It must not grow with the number of schedules that are not due.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import text

from tasks import schedule_dispatch
from tasks.runtime import Outgoing
from tests.support.running import RunningFleet
from tests.support.servers import Servers, embedded_servers
from workers.app import create_app
from workers.sending import Sender

ADD = text("""
    INSERT INTO scheduled_reviews (schedule_id, schedule_type, owner_id, interval_minutes, hour, minute, timezone,
        priority, enabled, max_retries, retry_delay_minutes, metadata, next_run, run_count, version, created_at,
        updated_at, last_business_day, month_end, dst_gap, dst_overlap, jitter_seconds, windows, window_policy,
        blackouts, tzdata_version, coalesce, overlap, max_instances, pause_after_failures, failures_in_row)
    SELECT CAST(:name AS text) || n, 'interval', :name || (n % :owners), 1440, 0, 0, 'UTC', 'medium', true, 3, 5,
        '{}', now() + make_interval(secs => :due), 0, 1, now(), now(), false, 'clamp', 'shift', 'first', 0, '[]',
        'skip', '[]', '9999', 'latest', 'skip', 3, 0, 0
    FROM generate_series(1, :count) AS n
""")
STARTED = text("""
    SELECT extract(epoch FROM started_at - nominal_utc), extract(epoch FROM ended_at - nominal_utc), status
    FROM schedule_executions WHERE schedule_id LIKE :name || '%'
""")
GRACE = timedelta(seconds=300)
AHEAD = 8
ROUNDS = 30
FEW, MANY = 1000, 100_000
GOALS = {"sent": 1.0}
RATIO = 1.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slots", type=int, default=1000)
    parser.add_argument("--owners", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    servers = embedded_servers()
    try:
        tick_ms = ticks(servers)
        fleet = RunningFleet(servers)
        try:
            found = {"slots": wanted.slots, **measure(fleet, wanted.slots, wanted.owners), "tick_ms": tick_ms}
        finally:
            fleet.close()
    finally:
        servers.close()
    if wanted.json:
        print(json.dumps(found))
        return
    print(f"{wanted.slots} slots due at once, {wanted.owners} owners, {os.cpu_count()} CPUs")
    for name in ("sent", "start"):
        row = found[name]
        bar = f"   (goal: p99 under {GOALS[name]:g} s)" if name in GOALS else ""
        print(f"{row['what']:42} p50 {row['p50']:7.3f} s   p99 {row['p99']:7.3f} s   max {row['max']:7.3f} s{bar}")
    print(f"all ended {found['all_ended']:.1f} s after their time; {found['failed']} failed")
    few, many = found["tick_ms"].values()
    print(
        f"tick with 10 due: {few:.1f} ms of {FEW:,} schedules, {many:.1f} ms of {MANY:,}: ratio {many / few:.2f}"
        f"   (goal: under {RATIO})"
    )


def measure(fleet: RunningFleet, slots: int, owners: int) -> dict[str, Any]:
    sent: list[float] = []
    app = create_app(fleet.settings)
    runtime = app.runtime

    class Timed(Sender):
        def many(self, messages: Sequence[Outgoing]) -> None:
            super().many(messages)
            sent.extend([time.perf_counter()] * len(messages))

    timed_runtime = dataclasses.replace(runtime, send=Timed(app))
    add(fleet, "warm", 1, 1, -1)
    schedule_dispatch.dispatch(timed_runtime, GRACE)
    sent.clear()
    add(fleet, "late", slots, owners, -1)
    began = time.perf_counter()
    schedule_dispatch.dispatch(timed_runtime, GRACE)
    late = [at - began for at in sent]
    fleet.start("maintenance")
    wait(fleet, "late", slots)
    add(fleet, "fleet", slots, owners, AHEAD)
    fleet.start("beat")
    rows = wait(fleet, "fleet", slots)
    return {
        "start": spread("runs started after their time", [float(row[0]) for row in rows]),
        "sent": spread("messages sent after the tick began, late", late),
        "all_ended": max(float(row[1]) for row in rows),
        "failed": sum(row[2] != "success" for row in rows),
    }


def ticks(servers: Servers) -> dict[str, float]:
    """The median of a tick by the number of schedules, in milliseconds; 10 of them are due. Each number has a
    database of its own, and the rounds go in turn, so that both see the same machine."""
    fleets = {count: RunningFleet(servers) for count in (FEW, MANY)}
    runtimes = {count: create_app(fleet.settings).runtime for count, fleet in fleets.items()}
    times: dict[int, list[float]] = {FEW: [], MANY: []}
    for count, fleet in fleets.items():
        add(fleet, "idle", count, 1000, 86_400 * 30)
        with fleet.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
            db.execute(text("VACUUM ANALYZE scheduled_reviews"))
    for number in range(ROUNDS):
        for count, fleet in fleets.items():
            add(fleet, f"due{number}-", 10, 10, -1)
            began = time.perf_counter()
            schedule_dispatch.dispatch(runtimes[count], GRACE)
            times[count].append(time.perf_counter() - began)
    for fleet in fleets.values():
        fleet.broker.flushdb()
        fleet.close()
    return {str(count): statistics.median(took[2:]) * 1000 for count, took in times.items()}


def add(fleet: RunningFleet, name: str, count: int, owners: int, due: float) -> None:
    with fleet.engine.begin() as db:
        db.execute(ADD, {"name": name, "count": count, "owners": owners, "due": due})


def wait(fleet: RunningFleet, name: str, count: int) -> list[Any]:
    """The runs of all these schedules, once they have ended."""
    until = time.monotonic() + 300
    while time.monotonic() < until:
        with fleet.engine.connect() as db:
            rows = db.execute(STARTED, {"name": name}).all()
        if len(rows) == count and all(row[1] is not None for row in rows):
            return list(rows)
        time.sleep(0.5)
    raise SystemExit(f"{name}: not all runs have ended after 300 s")


def spread(what: str, values: list[float]) -> dict[str, Any]:
    values = sorted(values)
    return {
        "what": what,
        "p50": values[len(values) // 2],
        "p99": values[int(len(values) * 0.99) - 1],
        "max": values[-1],
    }


if __name__ == "__main__":
    main()
