"""What is told of one session on its channel, kept in a Stream and in PostgreSQL, numbered from 1 (C-04, D-15)."""

from __future__ import annotations

import math
import random
import time
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from sessionfleet.errors import CallTimeout, SessionNotFound, ValidationFailed
from sessionfleet.event import REPLAY_END
from sessionfleet.feed import Feed
from sessionfleet.messages import Attach
from sessionfleet.servers import Servers
from sessionfleet.source import LOOK_SECONDS, PAGE, Batches, RedisSource, T

Ask = Callable[..., Awaitable[dict[str, Any]]]
"""How it asks the fleet: ``AsyncFleet.call``."""

AGAIN_SECONDS, LONGEST_SECONDS = 5.0, 30.0
"""A question of a subscription that has begun is asked anew after so long, for a server may have forgotten it; each
time it is waited for twice as long, for the fleet may be busy."""

Fields = Mapping[bytes, bytes]


class SessionSource(RedisSource[T]):
    """One connection's life, the same for events and for output.

    First the session's channel is heard; after a lost connection the Stream is read on. Then
    ``session.attach`` tells how far the session is, and what lies before is caught up with; from there on
    messages count. So nothing falls between. A message that does not follow the last one, and a Stream
    that holds more than was heard, are caught up with in the same way: from the Stream as far as it goes on
    without gap, from PostgreSQL where it does not.

    ``after`` is the number of the last item known, None to begin with what happens from the start on.
    """

    numbered_by: str
    """The argument of a reader's place, for messages."""

    def __init__(self, servers: Servers, ask: Ask, session_id: str, after: int | None, start_seconds: float) -> None:
        super().__init__(servers.cache_url, start_seconds)
        self._prefix = servers.channel_prefix
        self._ask = ask
        self._after = after
        self._patience = AGAIN_SECONDS
        self.session_id = Attach.parse({"session_id": session_id}).session_id
        """As the caller gave it; the uuid once the fleet has told it."""
        self.attached: dict[str, Any] = {}
        """What ``session.attach`` told last."""

    @property
    def cursor(self) -> int:
        """Number of the last item handed out."""
        return self._after or 0

    async def _connected(self, redis: Redis) -> Batches[T]:
        while True:
            channel = f"{self._prefix}session:{self.session_id}"
            async with Feed(redis, channel, within=self.start_seconds) as feed:
                if self._begun:  # what Redis has is handed out before the fleet is asked for the rest
                    async for batch in self._look(redis):
                        yield batch
                    if self.over is not None:
                        return
                try:
                    self.attached = await self._asked("session.attach")
                except SessionNotFound:
                    if self._begun:
                        async for batch in self._catch_up(redis, math.inf):
                            yield batch
                    raise
                known: str = self.attached["session"]["id"]
                if known == self.session_id:
                    async for batch in self._follow(redis, feed):
                        yield batch
                    return
            self.session_id = known  # it was the external id, and channels carry the uuid

    async def _follow(self, redis: Redis, feed: Feed) -> Batches[T]:
        async for batch in self._replay(redis):
            yield batch
        look_at = _look_at()
        while self.over is None:
            before = self.cursor
            heard = await feed.get(max(0.0, look_at - time.monotonic()))
            if heard is not None:
                async for batch in self._hear(redis, heard):
                    yield batch
            if self.cursor > before:  # nothing is missing up to here
                look_at = _look_at()
            elif time.monotonic() >= look_at:
                async for batch in self._look(redis):
                    yield batch
                look_at = _look_at()

    async def _replay(self, redis: Redis) -> Batches[T]:
        """What was before this connection; the first time, the mark behind it."""
        first, last, session = not self._begun, self._reached(), self.attached["session"]
        if self._after is None:
            self._after = last
        elif self._after > last:
            raise ValidationFailed.of(self.numbered_by, f"the session has reached {last}, not {self._after}")
        yield []
        async for batch in self._catch_up(redis, last):
            yield batch
        if first:
            yield [self.mark(REPLAY_END)]
        if session["ended_at"] is not None:
            self.over = self.over or session["status"]

    async def _asked(self, name: str, **arguments: Any) -> dict[str, Any]:
        """A read of this session; :class:`CallTimeout` and :class:`Unavailable` end the connection."""
        timeout = self._patience if self._begun else LONGEST_SECONDS
        try:
            answer = await self._ask(name, timeout, session_id=self.session_id, **arguments)
        except CallTimeout:
            self._patience = min(2 * self._patience, LONGEST_SECONDS)
            raise
        self._patience = AGAIN_SECONDS
        return answer

    async def _next(self, redis: Redis, number: int, item: T) -> Batches[T]:
        """An item that was heard: itself, itself after what was missed, or nothing."""
        if number > self.cursor + 1:
            async for batch in self._catch_up(redis, number - 1):
                yield batch
        if number == self.cursor + 1 and self.over is None:
            yield self._taken([item])

    async def _look(self, redis: Redis) -> Batches[T]:
        """What the Stream has and the channel did not bring."""
        async for batch in self._catch_up(redis, self._number(await self._newest(redis))):
            yield batch

    async def _newest(self, redis: Redis) -> Fields:
        try:
            found: Any = await redis.xrevrange(self._stream, count=1)
        except ResponseError:
            return {}  # somebody put another kind of value there
        return found[0][1] if found else {}

    async def _catch_up(self, redis: Redis, last: float) -> Batches[T]:
        """Everything up to number ``last``, and what lies behind it as far as it is at hand."""
        if self.cursor < last:
            async for batch in self._from_stream(redis):
                yield batch
        while self.cursor < last and self.over is None:
            page = await self._page()
            if page:
                yield self._taken(page)
            elif math.isinf(last):
                return
            else:
                self._after = int(last)  # PostgreSQL has no more of it: retention, or the session is gone

    async def _from_stream(self, redis: Redis) -> Batches[T]:
        start = self._place()
        while self.over is None:
            try:
                entries: Any = await redis.xrange(self._stream, min=start, count=PAGE)
            except ResponseError:
                return
            found: list[T] = []
            for entry_id, fields in entries:
                number = self._number(fields)
                if number <= self.cursor + len(found):
                    continue
                item = self._item(entry_id.decode(), fields)
                if item is None or number != self.cursor + len(found) + 1:
                    entries = ()
                    break
                found.append(item)
            if found:
                yield self._taken(found)
            if len(entries) < PAGE:
                return
            start = f"({entries[-1][0].decode()}"

    @property
    @abstractmethod
    def _stream(self) -> str:
        """Name of the Stream."""

    @abstractmethod
    def _reached(self) -> int:
        """The number of the newest item, as the fleet told it."""

    @abstractmethod
    def _place(self) -> str:
        """Where in the Stream to read on, as XRANGE takes it."""

    @abstractmethod
    def _number(self, fields: Fields) -> int:
        """The number of a Stream entry, 0 for what is no item."""

    @abstractmethod
    def _item(self, entry_id: str, fields: Fields) -> T | None:
        """A Stream entry as an item, None when it is broken."""

    @abstractmethod
    async def _page(self) -> list[T]:
        """The next items after the cursor from PostgreSQL; none when there are no more."""

    @abstractmethod
    def _hear(self, redis: Redis, data: bytes) -> Batches[T]:
        """What a message on the session's channel makes of it."""

    @abstractmethod
    def _taken(self, items: list[T]) -> list[T]:
        """The items, with the cursor moved behind them."""


def _look_at() -> float:
    """When to look next; many subscriptions that began together do not look together."""
    return time.monotonic() + LOOK_SECONDS * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
