"""One load process: takes a shape on stdin, makes its calls for some seconds, gives their times on stdout.

A process of its own, started once for the whole run: ``python -m benchmarks.bench.load``; a line of JSON
in, a line of JSON out.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.bench import bare
from sessionfleet import AsyncFleet

Job = dict[str, Any]
Done = tuple[list[float], int, float]
"""Seconds of each message, operations in them, seconds from the first one to the end of the last."""

Call = Callable[[], Awaitable[int]]
"""One message; gives the number of operations in it."""


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        before = time.process_time()
        times, operations, took = HOW[job["how"]](job)
        cpu = time.process_time() - before
        print(json.dumps({"times": times, "operations": operations, "took": took, "cpu": cpu}), flush=True)


def ours(job: Job) -> Done:
    """``outstanding`` calls at a time through the client."""

    async def run() -> Done:
        async with AsyncFleet.connect(job["redis_url"], submit_timeout=60.0) as fleet:
            await fleet.ready()
            call = CALLS[job["shape"]](fleet, job)
            times: list[float] = []
            done = [0]
            begun = time.perf_counter()
            until = begun + job["seconds"]

            async def one() -> None:
                while (started := time.perf_counter()) < until:
                    operations = await call()
                    done[0] += operations  # in two steps: others count while this one waits
                    times.append(time.perf_counter() - started)

            await asyncio.gather(*(one() for _ in range(job["outstanding"])))
            return times, done[0], time.perf_counter() - begun

    return asyncio.run(run())


def update(fleet: AsyncFleet, job: Job) -> Call:
    """session.update of any session."""

    async def call() -> int:
        await fleet.call("session.update", 60.0, session_id=random.choice(job["ids"]), context=step())
        return 1

    return call


def apply(fleet: AsyncFleet, job: Job) -> Call:
    """session.apply with ``size`` updates of different sessions."""

    async def call() -> int:
        chosen = random.sample(job["ids"], job["size"])
        operations = [
            {"name": "session.update", "arguments": {"session_id": one, "context": step()}} for one in chosen
        ]
        answer = await fleet.call("session.apply", 60.0, operations=operations)
        if answer["failed"]:
            raise RuntimeError("an operation failed")
        return len(operations)

    return call


def read(fleet: AsyncFleet, job: Job) -> Call:
    """session.get by a worker."""

    async def call() -> int:
        await fleet.call("session.get", session_id=random.choice(job["ids"]))
        return 1

    return call


def get(fleet: AsyncFleet, job: Job) -> Call:
    """fleet.get from the cache."""

    async def call() -> int:
        await fleet.get(random.choice(job["ids"]))
        return 1

    return call


def step() -> dict[str, int]:
    return {"step": random.randrange(1_000_000)}


def stock(job: Job) -> Done:
    """``outstanding`` calls at a time through Celery's own client, answers in the order of sending."""
    from benchmarks.bench.stock import noop
    from benchmarks.bench.stock import update as task

    def send() -> Any:
        if job["shape"] == "noop":
            return noop.delay()
        return task.delay(random.choice(job["ids"]), step())

    times: list[float] = []
    waiting: deque[tuple[float, Any]] = deque()
    begun = time.perf_counter()
    until = begun + job["seconds"]
    while time.perf_counter() < until or waiting:
        while len(waiting) < job["outstanding"] and time.perf_counter() < until:
            waiting.append((time.perf_counter(), send()))
        if waiting:
            started, result = waiting.popleft()
            result.get(timeout=60)
            times.append(time.perf_counter() - started)
    return times, len(times), time.perf_counter() - begun


def limit(job: Job) -> Done:
    """The bare-Python limit."""
    times = bare.measure(os.environ["BENCH_DATABASE"], job["ids"], job["size"], job["seconds"])
    return times, len(times) * job["size"], sum(times)


HOW = {"ours": ours, "stock": stock, "limit": limit}
CALLS = {"update": update, "apply": apply, "read": read, "get": get}


if __name__ == "__main__":
    main()
