"""One consumer of a group, asynchronous: events that are handled once by somebody (D-11)."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from redis.asyncio import Redis

from sessionfleet import consuming
from sessionfleet.consuming import CLAIM_SECONDS, TAKE, Entry, Taken
from sessionfleet.errors import FleetError, Unavailable, ValidationFailed
from sessionfleet.event import Event
from sessionfleet.feed import LOST, client
from sessionfleet.jsonvalue import told
from sessionfleet.messages import Consume
from sessionfleet.servers import Servers
from sessionfleet.words import CONSUMER_GROUPS

Call = Callable[..., Awaitable[Any]]

BLOCK_MS = 1000
"""How long one wait for events takes, so how late a claim can be; below the connection's time-out."""

FULL_SECONDS = 0.1
"""Between two looks of a consumer that holds as much as it may."""

PAUSE, MAX_PAUSE = 0.1, 2.0
BATCH = 10


class AsyncDelivery:
    """An event that is this consumer's to handle until :data:`~sessionfleet.consuming.CLAIM_SECONDS` are
    over. ``deliveries``: how often it was given out, from 1. A repeat has the same ``event.event_id``."""

    def __init__(self, consumer: AsyncConsumer, event: Event, entry: Entry) -> None:
        self._consumer = consumer
        self.event = event
        self.stream_id = entry.entry_id
        self.deliveries = entry.deliveries

    async def ack(self) -> None:
        """It is handled. :class:`Unavailable` when Redis does not answer; it comes again then unless this is
        repeated."""
        await self._consumer.acknowledge(self.stream_id)

    async def fail(self, reason: str) -> bool:
        """It could not be handled: it is given out again, after the third time it is a dead letter with this
        reason. Whether it is one. Raises what a call of ``event.consume`` raises."""
        return await self._consumer.give_back(self.stream_id, reason)


class AsyncConsumer:
    """Async iterator of :class:`AsyncDelivery`; made by :meth:`AsyncFleet.consume`.

    Takes up to ``batch`` events at a time and none while it holds 100. The first connection raises
    :class:`Unavailable`; later ones are made again by itself, for as long as it takes. ``timeout``:
    it ends after so many seconds without an event. Use it from one task at a time.
    """

    def __init__(
        self,
        servers: Servers,
        call: Call,
        send: Call,
        group: str,
        consumer: str | None = None,
        *,
        batch: int = BATCH,
        timeout: float | None = None,
    ) -> None:
        if group not in CONSUMER_GROUPS:
            raise ValidationFailed.of("group", f"must be one of {', '.join(CONSUMER_GROUPS)}")
        if not 1 <= batch <= consuming.PENDING:
            raise ValidationFailed.of("batch", f"must be from 1 to {consuming.PENDING}")
        self.group = group
        self.consumer = consumer or f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        Consume.parse({"group": group, "consumer": self.consumer})
        self._streams = consuming.streams(servers.channel_prefix, group)
        self._redis: Redis = client(servers.cache_url)
        self._script = self._redis.register_script(TAKE)
        self._call, self._send = call, send
        self._batch = batch
        self._timeout = timeout
        self._ready: deque[AsyncDelivery] = deque()
        self._stale_at = 0.0
        self._begun = False
        self._closed = asyncio.Event()
        self._asking = asyncio.Lock()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AsyncDelivery:
        quiet_since = time.monotonic()
        pause = PAUSE
        while not self._closed.is_set():
            if self._ready and time.monotonic() < self._stale_at:
                return self._ready.popleft()
            self._ready.clear()  # what waited here for too long is somebody else's by now
            if self._timeout is not None and time.monotonic() - quiet_since >= self._timeout:
                break
            try:
                async with self._asking:
                    await self._fill(quiet_since)
                self._begun, pause = True, PAUSE
            except LOST as error:
                if not self._begun and not self._closed.is_set():
                    raise _unavailable(error) from error
                await self._rest(pause)
                pause = min(pause * 2, MAX_PAUSE)
        raise StopAsyncIteration

    async def _fill(self, quiet_since: float) -> None:
        if self._closed.is_set():
            return
        asked_at = time.monotonic()
        taken = await self._take()
        for entry in taken.entries:
            if entry.reason is None and entry.event is not None:
                self._ready.append(AsyncDelivery(self, entry.event, entry))
            else:
                await self._give_up(entry)
        self._stale_at = asked_at + CLAIM_SECONDS
        if taken.entries:
            return
        if taken.room <= 0:
            await self._rest(FULL_SECONDS)
            return
        wait = BLOCK_MS
        if self._timeout is not None:
            wait = min(wait, max(1, int((quiet_since + self._timeout - time.monotonic()) * 1000)))
        places: Any = dict(zip(self._streams, taken.newest, strict=True))
        await self._redis.xread(places, count=1, block=wait)

    async def _take(self) -> Taken:
        arguments = consuming.arguments(self.group, self.consumer, self._batch)
        return Taken.of(await self._script(keys=list(self._streams), args=arguments))

    async def _give_up(self, entry: Entry) -> None:
        """To the dead letters, by a worker; if none hears of it now, it comes again."""
        with suppress(FleetError):
            failed = [{"stream_id": entry.entry_id, "reason": entry.reason}]
            await self._send("event.consume", group=self.group, consumer=self.consumer, limit=0, fail=failed)

    async def acknowledge(self, entry_id: str) -> None:
        """See :meth:`AsyncDelivery.ack`."""
        if self._closed.is_set():  # its connections are gone, a worker's are not
            await self._call("event.consume", group=self.group, consumer=self.consumer, limit=0, ack=[entry_id])
            return
        place, id_ = consuming.place_of(entry_id)
        try:
            await self._redis.xack(self._streams[place], self.group, id_)
            if place:
                await self._redis.xdel(self._streams[place], id_)
        except LOST as error:
            raise _unavailable(error) from error

    async def give_back(self, entry_id: str, reason: str) -> bool:
        """See :meth:`AsyncDelivery.fail`."""
        failed = [{"stream_id": entry_id, "reason": told(reason)}]
        answer = await self._call("event.consume", group=self.group, consumer=self.consumer, limit=0, fail=failed)
        return bool(answer["dead_letters"])

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closed.wait(), seconds)

    @property
    def closed(self) -> bool:
        """Whether somebody ended it."""
        return self._closed.is_set()

    async def aclose(self) -> None:
        """End it; a reader that waits comes to the end within a second. What it holds is given to others when
        its time is over."""
        self._closed.set()
        async with self._asking:  # else its connection would be made again behind our back
            self._ready.clear()
            await self._redis.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _unavailable(error: BaseException) -> Unavailable:
    return Unavailable(service="the event server", reason=str(error) or type(error).__name__)
