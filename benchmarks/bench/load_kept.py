"""Updates that are repeated with their key until they are answered: a job of :mod:`benchmarks.bench.load`."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from typing import Any

from benchmarks.bench.load import SECONDS
from benchmarks.bench.protocol import Answer, Job, Run
from sessionfleet import AsyncFleet
from sessionfleet.errors import CallTimeout, FleetError, Unavailable

TRY_SECONDS = 20.0
"""Of one call; a killed worker's messages come back after about ten."""

GIVE_UP_SECONDS = 120.0


def kept(job: Job) -> Answer:
    """``outstanding`` writers until the file ``stop`` is there. Every update sets ``mark`` in the context to its own
    idempotency key: ``answered`` lists [key, session id, seconds], ``unknown`` the keys that were given up on,
    ``refused`` [key, error]."""
    return asyncio.run(_kept(job))


async def _kept(job: Job) -> Answer:
    found: dict[str, list[Any]] = {"answered": [], "unknown": [], "refused": []}
    run = Run(job)
    repeats = [0]
    async with AsyncFleet.connect(job["redis_url"], submit_timeout=SECONDS) as fleet:
        await fleet.ready()

        async def update(key: str) -> None:
            session_id, started = random.choice(job["ids"]), time.perf_counter()
            while time.perf_counter() - started < GIVE_UP_SECONDS:
                try:
                    await fleet.call(
                        "session.update",
                        TRY_SECONDS,
                        session_id=session_id,
                        context={"mark": key},
                        idempotency_key=key,
                    )
                except (CallTimeout, Unavailable):
                    repeats[0] += 1
                except FleetError as error:
                    found["refused"].append([key, str(error)])
                    return
                else:
                    found["answered"].append([key, session_id, time.perf_counter() - started])
                    return
            found["unknown"].append(key)

        async def writer(number: int) -> None:
            for count in itertools.count():
                if not run.more():
                    return
                await update(f"{job['process']}-{number}-{count}")

        await asyncio.gather(*map(writer, range(job["outstanding"])))
    return {**found, "repeats": repeats[0], "took": run.answer()["took"]}
