"""openai-agents' SQLAlchemySession in the caller's process: one item appended to any of many sessions."""

from __future__ import annotations

import asyncio
import random

from agents.extensions.memory.sqlalchemy_session import SQLAlchemySession
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.bench.peers.places import peers_database
from benchmarks.bench.protocol import Answer, Job, window

SESSIONS = 50
NOTE = "x" * 900


def prepare() -> None:
    """Its tables."""
    asyncio.run(_run({"seconds": 0.0, "outstanding": 1}, create=True))


def drive(job: Job) -> Answer:
    return asyncio.run(_run(job))


async def _run(job: Job, *, create: bool = False) -> Answer:
    engine = create_async_engine(peers_database("postgresql+asyncpg"))
    sessions = [
        SQLAlchemySession(f"bench-{number}", engine=engine, create_tables=create) for number in range(SESSIONS)
    ]
    await sessions[0].add_items([{"role": "user", "content": "first"}])

    async def call() -> int:
        await random.choice(sessions).add_items([{"role": "user", "content": NOTE}])
        return 1

    done = await window(job, lambda _: call)
    await engine.dispose()
    return done
