"""Where a subscription's items come from: connections that are lost and made again."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Generic, TypeVar

from redis.asyncio import Redis

from sessionfleet.errors import FleetError, SessionNotFound, Unavailable
from sessionfleet.event import DELETED
from sessionfleet.feed import LOST, client

T = TypeVar("T")
Batches = AsyncGenerator[list[T], None]

PAGE = 500
"""Items read at once."""

LOOK_SECONDS = 5.0
"""How often a quiet source compares its place with the newest Stream entry."""

PAUSE = 0.1
MAX_PAUSE = 2.0


class Source(ABC, Generic[T]):
    """Items in order, each once, in batches as they come, for as long as it takes."""

    over: str | None = None
    """Why nothing more can come, once that is known."""

    @abstractmethod
    def batches(self) -> Batches[T]:
        """One empty batch as soon as nothing after this point can be missed, then the items.

        Raises a typed error when the first connection fails; later it reconnects by itself. Ends
        where nothing more can come.
        """

    @abstractmethod
    def mark(self, name: str, **payload: str) -> T:
        """A mark with the place so far."""


class RedisSource(Source[T]):
    """One that lives on connections to Redis. ``start_seconds`` bounds each attempt to connect."""

    def __init__(self, cache_url: str, start_seconds: float) -> None:
        self._cache_url = cache_url
        self.start_seconds = start_seconds
        self._begun = False

    async def batches(self) -> Batches[T]:
        """See :meth:`Source.batches`."""
        redis = client(self._cache_url)
        pause = PAUSE
        try:
            while True:
                try:
                    async with aclosing(self._connected(redis)) as batches:
                        async for batch in batches:
                            pause = PAUSE
                            if batch or not self._begun:
                                self._begun = True
                                yield batch
                    return
                except (*LOST, FleetError) as error:
                    if not self._begun:
                        raise _typed(error) from error
                    if isinstance(error, SessionNotFound):
                        self.over = DELETED  # while we were away
                        return
                    if isinstance(error, FleetError) and not error.retryable:
                        raise
                await asyncio.sleep(pause)
                pause = min(pause * 2, MAX_PAUSE)
        finally:
            await redis.aclose()

    @abstractmethod
    def _connected(self, redis: Redis) -> Batches[T]:
        """One connection's life, begun with an empty batch; raises one of LOST at its end."""


def _typed(error: BaseException) -> FleetError:
    if isinstance(error, FleetError):
        return error
    return Unavailable(service="the event server", reason=str(error) or type(error).__name__)
