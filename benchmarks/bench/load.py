"""Load processes of this environment: the fleet's client, Celery's own client, bare Python.

``python -m benchmarks.bench.load``, see :mod:`benchmarks.bench.protocol`. The fleet's client is the public
asynchronous one, one connection set a process and ``outstanding`` calls at a time.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.bench.bare import Bare
from benchmarks.bench.protocol import Answer, Call, Job, Run, queue, serve, window
from sessionfleet import AsyncFleet

SECONDS = 60.0


def drive(job: Job) -> Answer:
    if job["how"] in HOW:
        return HOW[job["how"]](job)
    from benchmarks.bench import load_kept, load_paced  # measurements of their own

    more = {"paced": load_paced.paced, "kept": load_kept.kept, "following": load_paced.following}
    return more[job["how"]](job)


def ours(job: Job) -> Answer:
    """``outstanding`` calls at a time through the client."""

    async def run() -> Answer:
        async with AsyncFleet.connect(job["redis_url"], submit_timeout=SECONDS) as fleet:
            await fleet.ready()
            return await window(job, lambda number: CALLS[job["shape"]](fleet, job, ids_of(job, number)))

    return asyncio.run(run())


def ids_of(job: Job, number: int) -> Sequence[str]:
    """The sessions a writer works on: all, or with ``own`` one of its own."""
    ids: Sequence[str] = _read(job["ids_file"]) if "ids_file" in job else job["ids"]
    return [ids[(job["process"] * job["outstanding"] + number) % len(ids)]] if job["own"] else ids


@cache
def _read(path: str) -> list[str]:
    """A million of them: too many for a job's line."""
    return Path(path).read_text().split()


def update(fleet: AsyncFleet, _: Job, ids: Sequence[str]) -> Call:
    """session.update of any session."""

    async def call() -> int:
        await fleet.call("session.update", SECONDS, session_id=random.choice(ids), context=step())
        return 1

    return call


def apply(fleet: AsyncFleet, job: Job, ids: Sequence[str]) -> Call:
    """session.apply with ``size`` updates of different sessions."""

    async def call() -> int:
        chosen = random.sample(ids, job["size"])
        operations = [
            {"name": "session.update", "arguments": {"session_id": one, "context": step()}} for one in chosen
        ]
        answer = await fleet.call("session.apply", SECONDS, operations=operations)
        if answer["failed"]:
            raise RuntimeError("an operation failed")
        return len(operations)

    return call


def read(fleet: AsyncFleet, _: Job, ids: Sequence[str]) -> Call:
    """session.get by a worker."""

    async def call() -> int:
        await fleet.call("session.get", SECONDS, session_id=random.choice(ids))
        return 1

    return call


def get(fleet: AsyncFleet, _: Job, ids: Sequence[str]) -> Call:
    """fleet.get from the cache."""

    async def call() -> int:
        await fleet.get(random.choice(ids))
        return 1

    return call


def step() -> dict[str, int]:
    """What is there already would be no change and leave no event: this is hardly ever drawn twice."""
    return {"step": random.getrandbits(48)}


def stock(job: Job) -> Answer:
    """``outstanding`` calls at a time through Celery's own client."""
    from benchmarks.bench import stock as app

    def send() -> Any:
        if job["shape"] == "noop":
            return app.noop.delay()
        task = {"update": app.update, "publish": app.publish}[job["shape"]]
        return task.delay(random.choice(job["ids"]), step())

    return queue(job, send, lambda result: result.get(timeout=SECONDS))


def limit(job: Job) -> Answer:
    """The bare-Python limit: transactions of ``size`` updates with their pipeline; 1 is the single statement."""
    bare = Bare(os.environ["BENCH_DATABASE"], os.environ["BENCH_CACHE"])
    ids, size, turn = job["ids"], job["size"], job["process"] * len(job["ids"]) // 2
    run = Run(job)
    while run.more():
        started = time.perf_counter()
        context = json.dumps(step())
        chosen = [ids[(turn + offset) % len(ids)] for offset in range(size)]
        bare.publish(bare.one(chosen[0], context) if size == 1 else bare.many(chosen, context))
        run.note(started, size)
        turn += size
    answer = run.answer()
    bare.db.close()
    return answer


HOW = {"ours": ours, "stock": stock, "limit": limit}
CALLS = {"update": update, "apply": apply, "read": read, "get": get}


if __name__ == "__main__":
    serve(drive)
