"""Many live sessions at a steady pace: latency over time, errors, memory of every process."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any

from benchmarks.bench import figures
from benchmarks.bench.bare import connected
from benchmarks.bench.figures import Figure, percentile
from benchmarks.bench.ground import LINES, Ground, memory_of
from benchmarks.bench.loads import Loads

PROCESSES = 2
EVERY = 5.0
"""Seconds between two looks at the memory, or less in a short run."""

FLAT = 1.10
"""What memory may grow to from the second fifth of the run to the last: 10 %. The first fifth fills pools,
prepared statements and caches of a size that does not grow with time."""

ALL_LINES = (*LINES, "maintenance", "beat")
"""With all duties, as in production."""

_BYTES = """
    SELECT (pg_total_relation_size('sessions') - sum(pg_column_size(s.*)))::float8 / count(*) FROM sessions s
"""


def soak(seconds: float, sessions: int, say: Callable[[str], None]) -> dict[str, Any]:
    """``{machine, figures, samples: [{at, mib: {process: MiB}}], latency: [{at, p95_ms}]}``: every session one
    update a second, each counted from when it was due."""
    before = figures.load()
    samples: list[dict[str, Any]] = []
    with Ground(ALL_LINES) as ground, ExitStack() as stack:
        say("starting servers and workers")
        ground.start(sessions)
        loads = stack.enter_context(closing(Loads(ground.environ, PROCESSES)))
        say(f"{sessions:,} operations a second for {seconds:g} s")
        over = threading.Event()
        watching = threading.Thread(target=_watch, args=(ground, samples, min(EVERY, seconds / 20), over))
        watching.start()
        try:
            answers = loads.jobs([_job(ground, number, seconds) for number in range(PROCESSES)])
        finally:
            over.set()
            watching.join()
        with connected(ground.postgres.url) as database, database.cursor() as run:
            run.execute(_BYTES)
            [beyond] = run.fetchone()  # type: ignore[misc]
        database.close()
    taken = [tuple(one) for answer in answers for one in answer["taken"]]
    times = sorted(took * 1e3 for _, took in taken)
    errors = [error for answer in answers for error in answer["errors"]]
    grown = growths(samples)
    ours = {name: share for name, share in grown.items() if name.startswith(ALL_LINES)}
    return figures.found(
        [
            Figure(
                "operations",
                sum(one["operations"] / one["took"] for one in answers),
                "a second",
                least=0.95 * sessions,
            ),
            Figure("p50", percentile(times, 0.5), "ms"),
            Figure("p95", percentile(times, 0.95), "ms", most=100.0),
            Figure("p99", percentile(times, 0.99), "ms"),
            Figure("errors", len(errors), most=0),
            *(Figure(f"memory of {name}, last fifth over second", share, most=FLAT) for name, share in ours.items()),
            *(Figure(f"memory of {name}, the same", grown[name]) for name in grown.keys() - ours.keys()),
            Figure("PostgreSQL per session beyond its data", beyond, "bytes", most=1023),
        ],
        before,
        measurement="soak",
        samples=samples,
        latency=_by_time(taken, seconds / 10),
        errors=errors[:10],
    )


def growths(samples: list[dict[str, Any]]) -> dict[str, float]:
    """By process, the median memory of the last fifth of the samples over that of the second fifth."""
    fifth = max(1, len(samples) // 5)
    early, late = samples[fifth : 2 * fifth] or samples[:1], samples[-fifth:]

    def median(part: list[dict[str, Any]], name: str) -> float:
        return float(statistics.median(one["mib"][name] for one in part))

    return {name: median(late, name) / median(early, name) for name in samples[0]["mib"]}


def _job(ground: Ground, number: int, seconds: float) -> dict[str, Any]:
    # In an order of their own: sessions created one after the other share a page, but are not active in turn.
    ids = ground.ids[number::PROCESSES]
    random.Random(number).shuffle(ids)
    return {
        "how": "paced",
        "shape": "update",
        "redis_url": ground.redis_url,
        "ids": ids,
        "rate": len(ids),
        "seconds": seconds,
    }


def _watch(ground: Ground, samples: list[dict[str, Any]], every: float, over: threading.Event) -> None:
    processes = [one for part in ground.parts().values() for one in part]
    begun = time.monotonic()
    while True:
        mib = {one.name: memory_of(one.pid) / 2**20 for one in processes}
        samples.append({"at": time.monotonic() - begun, "mib": mib})
        if over.wait(every):
            return


def _by_time(taken: list[Any], width: float) -> list[dict[str, float]]:
    """p95 of each tenth of the run."""
    parts: dict[int, list[float]] = {}
    for at, took in taken:
        parts.setdefault(int(at / width), []).append(took * 1e3)
    return [{"at": part * width, "p95_ms": percentile(sorted(times), 0.95)} for part, times in sorted(parts.items())]
