"""Where a subscription's events come from: connections that are lost and made again."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import aclosing

from redis.asyncio import Redis

from sessionfleet.errors import FleetError, SessionNotFound, Unavailable
from sessionfleet.event import Event
from sessionfleet.feed import LOST, client

Batches = AsyncGenerator[list[Event], None]

PAGE = 500
"""Events read at once."""

LOOK_SECONDS = 5.0
"""How often a quiet source compares its place with the newest Stream entry."""

PAUSE = 0.1
MAX_PAUSE = 2.0


class Source(ABC):
    """Events in order, each once, in batches as they come, for as long as it takes."""

    def __init__(self, cache_url: str) -> None:
        self._cache_url = cache_url

    async def batches(self) -> Batches:
        """One empty batch as soon as nothing after this point can be missed, then the events.

        Raises a typed error when the first connection fails; later it reconnects by itself. Ends
        where nothing more can come.
        """
        redis = client(self._cache_url)
        pause, begun = PAUSE, False
        try:
            while True:
                try:
                    async with aclosing(self._connected(redis)) as batches:
                        async for batch in batches:
                            pause = PAUSE
                            if batch or not begun:
                                begun = True
                                yield batch
                    return
                except (*LOST, FleetError) as error:
                    if not begun:
                        raise _typed(error) from error
                    if isinstance(error, SessionNotFound):
                        return  # deleted while we were away
                    if isinstance(error, FleetError) and not error.retryable:
                        raise
                await asyncio.sleep(pause)
                pause = min(pause * 2, MAX_PAUSE)
        finally:
            await redis.aclose()

    @abstractmethod
    def _connected(self, redis: Redis) -> Batches:
        """One connection's life, begun with an empty batch; raises one of LOST at its end."""

    @abstractmethod
    def ping(self) -> Event:
        """A sign of life with the place so far."""


def _typed(error: BaseException) -> FleetError:
    if isinstance(error, FleetError):
        return error
    return Unavailable(service="the event server", reason=str(error) or type(error).__name__)
