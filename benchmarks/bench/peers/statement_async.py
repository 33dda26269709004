"""The bare statement for peers whose tasks are coroutines: asyncpg, prepared, a pool per process."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import asyncpg
from sqlalchemy import make_url

from benchmarks.bench.bare import SEARCH_PATH
from benchmarks.bench.peers.places import FLEET
from benchmarks.bench.statement import ONE

_pools: list[asyncpg.Pool] = []


async def connect(size: int = 8) -> None:
    """Opens the pool of this process; once, before the first call of :func:`update`."""
    url = make_url(FLEET).set(drivername="postgresql").render_as_string(hide_password=False)
    settings = {"search_path": SEARCH_PATH}
    _pools.append(await asyncpg.create_pool(url, min_size=size, max_size=size, server_settings=settings))


async def update(session_id: str, context: dict[str, Any]) -> None:
    """One update, in a transaction of its own; asyncpg keeps the statement prepared."""
    async with _pools[0].acquire() as db:
        written = await db.fetch(ONE, session_id, None, str(uuid4()), json.dumps(context))
    if len(written) != 1:
        raise RuntimeError("the session is missing")
