"""procrastinate: a queue in PostgreSQL. Jobs have no results: the caller looks at the rows of its jobs."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import procrastinate
from procrastinate import PsycopgConnector

from benchmarks.bench.peers import statement_async
from benchmarks.bench.peers.places import peers_database
from benchmarks.bench.protocol import Answer, Job, window

POLL_SECONDS = 0.005
"""How often the caller asks for the state of all its jobs, in one statement."""

_FINISHED = "SELECT id FROM procrastinate_jobs WHERE id = ANY (%(ids)s) AND status IN ('succeeded', 'failed')"

app = procrastinate.App(connector=PsycopgConnector(conninfo=peers_database(), min_size=4, max_size=16))


@app.task(name="update")
async def update(session_id: str, context: dict[str, Any]) -> None:
    """One update by the bare statement."""
    await statement_async.update(session_id, context)


def prepare() -> None:
    """The tables of the queue."""

    async def make() -> None:
        async with app.open_async():
            await app.schema_manager.apply_schema_async()

    asyncio.run(make())


def drive(job: Job) -> Answer:
    waiting: dict[int, asyncio.Event] = {}

    async def call() -> int:
        job_id = await update.defer_async(
            session_id=random.choice(job["ids"]), context={"step": random.randrange(1_000_000)}
        )
        done = waiting[job_id] = asyncio.Event()
        await done.wait()
        return 1

    async def look() -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if waiting:
                for row in await app.connector.execute_query_all_async(_FINISHED, ids=list(waiting)):
                    waiting.pop(row["id"]).set()

    async def run() -> Answer:
        # A connector belongs to one event loop, and each job has its own.
        connector = PsycopgConnector(conninfo=peers_database(), min_size=4, max_size=16)
        with app.replace_connector(connector):
            async with app.open_async():
                looking = asyncio.create_task(look())
                try:
                    return await window(job, lambda _: call)
                finally:
                    looking.cancel()

    return asyncio.run(run())


async def work() -> None:
    """The worker: 16 jobs at a time, woken by LISTEN and NOTIFY."""
    await statement_async.connect()
    async with app.open_async():
        await app.run_worker_async(concurrency=16, install_signal_handlers=True)


if __name__ == "__main__":
    from benchmarks.bench.peers import procrastinate as module  # the tasks must be those of one app

    asyncio.run(module.work())
