"""Following all sessions by Stream id (D-07, D-10)."""

from __future__ import annotations

import time
from typing import Any

from redis.asyncio import Redis

from sessionfleet.event import Event, event_in
from sessionfleet.servers import Servers
from sessionfleet.source import LOOK_SECONDS, PAGE, Batches, Source

BLOCK_MS = 1000
START = "0-0"


class FleetEvents(Source):
    """All sessions' events in commit order, from the Stream that keeps about the last 100,000.

    ``after`` is the ``stream_id`` of the last event seen; without it, what happens from the start
    on. Nothing in between is missed while the Stream still holds it, also over restarts of Redis.
    """

    def __init__(self, servers: Servers, after: str | None = None) -> None:
        super().__init__(servers.cache_url)
        self._stream = f"{servers.channel_prefix}stream:events"
        self._after = after

    def ping(self) -> Event:
        """A sign of life with the Stream id so far."""
        return Event.ping("", 0, self._after)

    async def _connected(self, redis: Redis) -> Batches:
        await self._place(redis)
        yield []
        place_at = time.monotonic() + LOOK_SECONDS
        while True:
            found: Any = await redis.xread({self._stream: self._after or START}, count=PAGE, block=BLOCK_MS)
            for _, entries in found or ():
                self._after = entries[-1][0].decode()
                events = (event_in(fields.get(b"envelope", b""), entry_id.decode()) for entry_id, fields in entries)
                yield [event for event in events if event is not None]
            if time.monotonic() >= place_at:
                await self._place(redis)
                place_at = time.monotonic() + LOOK_SECONDS

    async def _place(self, redis: Redis) -> None:
        """Begin at the newest entry; begin anew when entry ids did, after a restored database."""
        found: Any = await redis.xrevrange(self._stream, count=1)
        newest = found[0][0].decode() if found else START
        if self._after is None:
            self._after = newest
        elif found and _numbers(newest) < _numbers(self._after):
            self._after = START


def _numbers(entry_id: str) -> tuple[int, ...]:
    return tuple(map(int, entry_id.split("-")))
