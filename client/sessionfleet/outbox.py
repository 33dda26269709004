"""Messages of an asynchronous client on their way to the broker: what is sent while a round trip is under way goes
together with the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from sessionfleet.request import Request

Send = Callable[[Sequence[Request], float, bool], Awaitable[None]]
"""Sends requests in one round trip until an instant (``time.monotonic()``); ``True``: nobody waits for answers."""


@dataclass(slots=True)
class _Parcel:
    requests: Sequence[Request]
    until: float
    ignore_result: bool
    sent: asyncio.Future[None]


class Outbox:
    """For one event loop. With one message there is one in a round trip; nothing waits for a timer."""

    def __init__(self, send: Send, most: int) -> None:
        self._send = send
        self._most = most
        self._parcels: list[_Parcel] = []
        self._task: asyncio.Task[None] | None = None

    async def put(self, requests: Sequence[Request], until: float, ignore_result: bool) -> None:
        """Return once they were sent; raises what sending raises."""
        loop = asyncio.get_running_loop()
        parcel = _Parcel(requests, until, ignore_result, loop.create_future())
        self._parcels.append(parcel)
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._run(), name="sessionfleet-outbox")
        await parcel.sent

    async def close(self) -> None:
        """Wait for what is under way; each round trip is bounded."""
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while self._parcels:
            taken = self._take()
            requests = [request for parcel in taken for request in parcel.requests]
            try:
                # The first of them has the least time left: they came in this order, each with the same time.
                await self._send(requests, taken[0].until, taken[0].ignore_result)
            except Exception as error:  # noqa: BLE001 - each sender is told
                for parcel in taken:
                    if not parcel.sent.done():
                        parcel.sent.set_exception(error)
            else:
                for parcel in taken:
                    if not parcel.sent.done():
                        parcel.sent.set_result(None)

    def _take(self) -> list[_Parcel]:
        """The oldest and what may go with it."""
        kind, count, place = self._parcels[0].ignore_result, 0, 0
        for parcel in self._parcels:
            count += len(parcel.requests)
            if parcel.ignore_result != kind or (place and count > self._most):
                break
            place += 1
        taken, self._parcels = self._parcels[:place], self._parcels[place:]
        return taken
