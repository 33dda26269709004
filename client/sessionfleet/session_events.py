"""Following one session by ``seq`` (D-07, D-13)."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis

from sessionfleet.errors import SessionNotFound
from sessionfleet.event import Event, event_in
from sessionfleet.feed import Feed
from sessionfleet.servers import Servers
from sessionfleet.source import LOOK_SECONDS, PAGE, Batches, Source

Ask = Callable[..., Awaitable[dict[str, Any]]]
"""How it asks the fleet: ``AsyncFleet.call``."""


class SessionEvents(Source):
    """One session's events after ``after_seq``, each once, in ``seq`` order, without gap.

    Hears the session's channel first, then reads what was before, so nothing falls between. A gap
    is filled by ``session.get_events``. Without ``after_seq`` it begins with what happens after
    the start. Ends after the session's terminal event, or its deletion.
    """

    def __init__(self, servers: Servers, ask: Ask, session_id: str, after_seq: int | None = None) -> None:
        super().__init__(servers.cache_url)
        self._prefix = servers.channel_prefix
        self._ask = ask
        self._session_id = session_id
        self._channel_id = ""
        self._cursor = after_seq
        self._ended = False

    @property
    def cursor(self) -> int:
        """``seq`` of the last event seen."""
        return self._cursor or 0

    def ping(self) -> Event:
        """A sign of life with ``seq`` so far."""
        return Event.ping(self._channel_id, self.cursor)

    async def _connected(self, redis: Redis) -> Batches:
        if not self._channel_id:  # channels carry the uuid, callers may know the external id
            self._channel_id = (await self._document())["id"]
        async with Feed(redis, f"{self._prefix}session:{self._channel_id}") as feed:
            if self._cursor is None:
                self._cursor = (await self._document())["last_seq"]
            yield []
            async for batch in self._refill():
                yield batch
            await self._look_for_the_end()
            look_at = time.monotonic() + LOOK_SECONDS
            while not self._ended:
                heard = await feed.get(max(0.0, look_at - time.monotonic()))
                if heard is not None and (event := event_in(heard[1])) is not None:
                    async for batch in self._after(event):
                        yield batch
                if time.monotonic() >= look_at:
                    if await self._is_behind(redis):
                        async for batch in self._refill():
                            yield batch
                    look_at = time.monotonic() + LOOK_SECONDS

    async def _after(self, heard: Event) -> Batches:
        """What a message makes of it: itself, itself after what was missed, or nothing."""
        if heard.seq <= self.cursor:
            return
        if heard.seq > self.cursor + 1:
            try:
                async for batch in self._refill():
                    yield batch
            except SessionNotFound:
                if not heard.is_last:
                    raise
                self._cursor = heard.seq - 1  # what was missed went with the session
        if heard.seq == self.cursor + 1:
            yield self._taken([heard])

    async def _refill(self) -> Batches:
        while not self._ended:
            answer = await self._ask(
                "session.get_events", session_id=self._session_id, after_seq=self.cursor, limit=PAGE
            )
            if answer["items"]:
                yield self._taken([Event.of(envelope) for envelope in answer["items"]])
            if len(answer["items"]) < PAGE:
                return

    def _taken(self, events: list[Event]) -> list[Event]:
        self._cursor = events[-1].seq
        self._ended = events[-1].is_last
        return events

    async def _document(self) -> dict[str, Any]:
        return await self._ask("session.get", session_id=self._session_id)

    async def _look_for_the_end(self) -> None:
        """A subscriber that begins after the terminal event would wait for ever."""
        if not self._ended:
            document = await self._document()
            self._ended = document.get("ended_at") is not None and document["last_seq"] <= self.cursor

    async def _is_behind(self, redis: Redis) -> bool:
        """Whether the Stream holds what the channel did not bring."""
        newest: Any = await redis.xrevrange(f"{self._prefix}stream:session:{self._channel_id}", count=1)
        return bool(newest) and int(newest[0][1].get(b"seq", 0)) > self.cursor
