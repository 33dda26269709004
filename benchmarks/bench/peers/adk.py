"""google-adk's DatabaseSessionService in the caller's process: an event that changes the state."""

from __future__ import annotations

import asyncio
import random
import time

from google.adk.events import Event, EventActions
from google.adk.sessions import DatabaseSessionService, Session

from benchmarks.bench.peers.places import peers_database
from benchmarks.bench.protocol import Answer, Job, window

SESSIONS = 50
"""Of each process, made with its first job; an append needs the session object of the append before it."""

NOTE = "x" * 900

_made: list[Session] = []


def prepare() -> None:
    """Its tables."""

    async def make() -> None:
        service = DatabaseSessionService(db_url=peers_database("postgresql+asyncpg"))
        await service.create_session(app_name="bench", user_id="bench")
        await service.close()

    asyncio.run(make())


def drive(job: Job) -> Answer:
    async def run() -> Answer:
        service = DatabaseSessionService(db_url=peers_database("postgresql+asyncpg"))
        while len(_made) < SESSIONS:
            _made.append(await service.create_session(app_name="bench", user_id="bench", state={"note": NOTE}))

        async def call() -> int:
            actions = EventActions(state_delta={"step": random.randrange(1_000_000)})
            event = Event(invocation_id="bench", author="bench", actions=actions, timestamp=time.time())
            await service.append_event(random.choice(_made), event)
            return 1

        done = await window(job, lambda _: call)
        await service.close()
        return done

    return asyncio.run(run())
