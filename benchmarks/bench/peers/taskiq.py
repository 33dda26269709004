"""taskiq with a Redis Stream as broker and Redis for results, which it polls: every 20 ms here."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from taskiq import TaskiqEvents
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.bench.peers import statement_async
from benchmarks.bench.peers.places import BROKER, RESULTS
from benchmarks.bench.protocol import Answer, Job, window

POLL_SECONDS = 0.02
"""Its default is 0.2. Below 0.02 the polls of many outstanding calls cost more than they bring."""

broker = RedisStreamBroker(url=BROKER, queue_name="taskiq").with_result_backend(
    RedisAsyncResultBackend(redis_url=RESULTS, result_ex_time=600)
)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def _start(_: Any) -> None:
    await statement_async.connect()


@broker.task(task_name="update")
async def update(session_id: str, context: dict[str, Any]) -> dict[str, Any]:
    """One update by the bare statement."""
    await statement_async.update(session_id, context)
    return {"id": session_id, "context": context}


def drive(job: Job) -> Answer:
    async def call() -> int:
        sent = await update.kiq(random.choice(job["ids"]), {"step": random.randrange(1_000_000)})
        answer = await sent.wait_result(check_interval=POLL_SECONDS, timeout=60)
        answer.raise_for_error()
        return 1

    async def run() -> Answer:
        await broker.startup()
        try:
            return await window(job, lambda _: call)
        finally:
            await broker.shutdown()

    return asyncio.run(run())
