"""Load at a given rate, and subscribers: jobs of :mod:`benchmarks.bench.load` that are not about the most
that is possible."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from benchmarks.bench.load import SECONDS, step
from benchmarks.bench.protocol import Answer, Job
from sessionfleet import AsyncFleet
from sessionfleet.errors import FleetError
from sessionfleet.event import Event
from sessionfleet.subscription import Subscription


def paced(job: Job) -> Answer:
    """``rate`` operations a second, the sessions in turn, for ``seconds``, whatever the answers do: the time of
    each counts from when it was due, so that a slow fleet does not slow down what measures it."""
    return asyncio.run(_paced(job))


async def _paced(job: Job) -> Answer:
    taken: list[tuple[float, float]] = []
    errors: list[str] = []
    ids, rate = job["ids"], job["rate"]
    async with AsyncFleet.connect(job["redis_url"], submit_timeout=SECONDS) as fleet:
        await fleet.ready()
        begun = time.perf_counter()

        async def one(number: int, due: float) -> None:
            session_id = ids[number % len(ids)]
            try:
                if job["shape"] == "event":
                    await fleet.call("session.emit_event", SECONDS, session_id=session_id, type="bench")
                else:
                    await fleet.call("session.update", SECONDS, session_id=session_id, context=step())
            except FleetError as error:
                errors.append(str(error))
            taken.append((due - begun, time.perf_counter() - due))

        async with asyncio.TaskGroup() as calls:
            for number in range(int(rate * job["seconds"])):
                due = begun + number / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                calls.create_task(one(number, due))
        took = time.perf_counter() - begun
    return {"taken": taken, "errors": errors, "operations": len(taken), "took": took}


def following(job: Job) -> Answer:
    """A subscriber for each session: event id and Unix time of the arrival of each event, until ``quiet`` seconds
    have passed without one. Makes the file ``ready`` when all are subscribed."""
    return asyncio.run(_following(job))


async def _following(job: Job) -> Answer:
    heard: list[tuple[str, float]] = []
    async with AsyncFleet.connect(job["redis_url"], submit_timeout=SECONDS) as fleet:
        subscriptions = [fleet.subscribe(one, timeout=job["quiet"], marks=False) for one in job["ids"]]
        for subscription in subscriptions:
            await subscription.start()
        await asyncio.to_thread(Path(job["ready"]).touch)

        async def follow(subscription: Subscription[Event]) -> None:
            async for event in subscription:
                heard.append((event.event_id, time.time()))  # noqa: PERF401 - the time is that of the arrival

        await asyncio.gather(*map(follow, subscriptions))
    return {"heard": heard}
