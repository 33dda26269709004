"""Following all sessions by Stream id (D-07, D-10)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from redis.asyncio import Redis

from sessionfleet.event import REPLAY_END, Event, event_in
from sessionfleet.servers import Servers
from sessionfleet.source import LOOK_SECONDS, PAGE, Batches, RedisSource

BLOCK_MS = 1000
START = "0-0"


class FleetEvents(RedisSource[Event]):
    """All sessions' events in commit order, from the Stream that keeps about the last 100,000.

    ``after`` is the ``stream_id`` of the last event seen; without it, what happens from the start
    on. Nothing in between is missed while the Stream still holds it, also over restarts of Redis.
    """

    def __init__(self, servers: Servers, after: str | None, start_seconds: float) -> None:
        super().__init__(servers.cache_url, start_seconds)
        self._stream = f"{servers.channel_prefix}stream:events"
        self._after = after
        self._replaying_to: str | None = None

    def mark(self, name: str, **payload: str) -> Event:
        """A mark with the Stream id so far."""
        return Event.mark(name, "", 0, self._after, **payload)

    async def _connected(self, redis: Redis) -> Batches[Event]:
        async with asyncio.timeout(self.start_seconds):
            newest = await self._place(redis)
        if not self._begun:
            self._replaying_to = newest
        yield []
        yield self._replayed()
        place_at = time.monotonic() + LOOK_SECONDS
        while True:
            found: Any = await redis.xread({self._stream: self._after or START}, count=PAGE, block=BLOCK_MS)
            for _, entries in found or ():
                self._after = entries[-1][0].decode()
                events = (event_in(fields.get(b"envelope", b""), entry_id.decode()) for entry_id, fields in entries)
                yield [event for event in events if event is not None] + self._replayed()
            if time.monotonic() >= place_at:
                await self._place(redis)
                place_at = time.monotonic() + LOOK_SECONDS

    def _replayed(self) -> list[Event]:
        """The mark, once what the Stream held at the start has been read."""
        if self._replaying_to is None or _numbers(self._after or START) < _numbers(self._replaying_to):
            return []
        self._replaying_to = None
        return [self.mark(REPLAY_END)]

    async def _place(self, redis: Redis) -> str:
        """Begin at the newest entry; begin anew when entry ids did, after a restored database. Answers the newest."""
        found: Any = await redis.xrevrange(self._stream, count=1)
        newest = found[0][0].decode() if found else START
        if self._after is None:
            self._after = newest
        elif found and _numbers(newest) < _numbers(self._after):
            self._after = START
        return newest


def _numbers(entry_id: str) -> tuple[int, ...]:
    return tuple(map(int, entry_id.split("-")))
