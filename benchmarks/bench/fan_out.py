"""From the commit of an event to its subscriber, and how much the relay alone can publish."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any

from benchmarks.bench import figures
from benchmarks.bench.bare import connected
from benchmarks.bench.figures import Figure, percentile
from benchmarks.bench.ground import Ground
from benchmarks.bench.loads import Loads
from workers.home import ROOT

RATE = 500
"""Events a second, as far as the machine can."""

SUBSCRIBERS = 100
"""Each of a session of its own; the sessions get the events in turn."""

PROCESSES = 2
"""Of the writers and of the subscribers."""

QUIET = 5.0
"""Seconds without an event after which a subscriber leaves."""

_COMMITS = """
    SELECT event_id::text, extract(epoch FROM pg_xact_commit_timestamp(xmin))::float8 FROM session_events
    WHERE event_name = 'bench'
"""


def fan_out(events: int, seconds: float, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """``{machine, figures, rate, relay}``. The commit's time is PostgreSQL's own (``track_commit_timestamp``), the
    arrival's is the wall clock of the same machine where the subscriber's loop hands the event out."""
    before = figures.load()
    with Ground(settings={"track_commit_timestamp": "on"}) as ground, ExitStack() as stack:
        say("starting servers and workers")
        ground.start(SUBSCRIBERS)
        writers, readers = (
            stack.enter_context(closing(Loads(ground.environ, count))) for count in (PROCESSES, PROCESSES)
        )
        say(f"{RATE} events a second for {seconds:g} s, {SUBSCRIBERS} subscribers")
        wrote, heard = _measure(ground, writers, readers, seconds)
        with connected(ground.postgres.url) as database, database.cursor() as run:
            run.execute(_COMMITS)
            commits: dict[str, float] = dict(run.fetchall())
        database.close()
    errors = [error for one in wrote for error in one["errors"]]
    arrivals = {event_id: at for event_id, at in heard if event_id in commits}
    times = sorted((at - commits[event_id]) * 1e3 for event_id, at in arrivals.items())
    say(f"the relay alone, {events:,} events")
    relay = _relay(events, rounds)
    rate = sum(one["operations"] / one["took"] for one in wrote)
    return figures.found(
        [
            Figure("events written", rate, "a second", least=0.95 * RATE),
            Figure("commit to subscriber, p50", percentile(times, 0.5), "ms", most=5.0),
            Figure("commit to subscriber, p99", percentile(times, 0.99), "ms", most=50.0),
            Figure("events that no subscriber heard", len(commits) - len(arrivals), most=0),
            Figure("events heard more than once", len(heard) - len({event_id for event_id, _ in heard}), most=0),
            Figure("errors of the writers", len(errors), most=0),
            Figure("the relay alone", relay["relay"]["events_per_s"], "events/s", least=20_000),
            Figure("bare pipelines of the same bytes", relay["bare"]["events_per_s"], "events/s"),
        ],
        before,
        measurement="fanout",
        relay=relay,
        errors=errors[:10],
    )


def _measure(ground: Ground, writers: Loads, readers: Loads, seconds: float) -> tuple[list[Any], list[Any]]:
    """Answers of the writers, and (event id, arrival) of all subscribers."""
    common = {"redis_url": ground.redis_url, "quiet": QUIET, "seconds": seconds, "shape": "event"}
    ready = [ground.home / f"ready.{number}" for number in range(PROCESSES)]
    wrote: list[Any] = []

    def write() -> None:
        while not all(path.exists() for path in ready):
            time.sleep(0.05)
        parts = [ground.ids[number::PROCESSES] for number in range(PROCESSES)]
        wrote.extend(writers.jobs([common | {"how": "paced", "ids": ids, "rate": RATE / PROCESSES} for ids in parts]))

    following = [
        common | {"how": "following", "ids": ground.ids[number::PROCESSES], "ready": str(path)}
        for number, path in enumerate(ready)
    ]
    heard = readers.jobs(following, meanwhile=write)
    return wrote, [tuple(one) for answer in heard for one in answer["heard"]]


def _relay(events: int, rounds: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.relay_rate", "--events", str(events), "--rounds", str(rounds)]
    done = subprocess.run([*command, "--json"], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
