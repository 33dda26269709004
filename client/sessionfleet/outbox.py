"""Messages of an asynchronous client on their way to the broker: what is sent while a round trip is under way goes
together with the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from sessionfleet.envelope import Letter
from sessionfleet.errors import FleetError
from sessionfleet.feed import goes_on

Send = Callable[[Sequence[Letter], float], Awaitable[None]]
"""Sends letters in one round trip until an instant (``time.monotonic()``)."""


@dataclass(slots=True)
class _Parcel:
    letters: Sequence[Letter]
    until: float
    sent: asyncio.Future[None]

    def told(self, error: Exception) -> Exception:
        """The error of a round trip with this parcel's own operation in it."""
        return self.letters[0].request.own(error) if isinstance(error, FleetError) else error


class Outbox:
    """For one event loop. With one message there is one in a round trip; nothing waits for a timer."""

    def __init__(self, send: Send, most: int) -> None:
        self._send = send
        self._most = most
        self._parcels: list[_Parcel] = []
        self._task: asyncio.Task[None] | None = None

    async def put(self, letters: Sequence[Letter], until: float) -> None:
        """Return once they were sent; raises what sending raises."""
        loop = asyncio.get_running_loop()
        parcel = _Parcel(letters, until, loop.create_future())
        self._parcels.append(parcel)
        if not goes_on(self._task):
            self._task = loop.create_task(self._run(self._task), name="sessionfleet-outbox")
        await parcel.sent

    async def close(self) -> None:
        """Wait for what is under way; each round trip is bounded."""
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    async def _run(self, before: asyncio.Task[None] | None) -> None:
        if before is not None and not before.done():  # cancelled, and still at the one connection
            await asyncio.wait([before])
        while self._parcels:
            taken = self._take()
            letters = [letter for parcel in taken for letter in parcel.letters]
            try:
                # The first of them has the least time left: they came in this order, each with the same time.
                await self._send(letters, taken[0].until)
            except Exception as error:  # noqa: BLE001 - each sender is told
                for parcel in taken:
                    if not parcel.sent.done():
                        parcel.sent.set_exception(parcel.told(error))
            else:
                for parcel in taken:
                    if not parcel.sent.done():
                        parcel.sent.set_result(None)

    def _take(self) -> list[_Parcel]:
        """The oldest and what may go with it."""
        count, place = 0, 0
        for parcel in self._parcels:
            count += len(parcel.letters)
            if place and count > self._most:
                break
            place += 1
        taken, self._parcels = self._parcels[:place], self._parcels[place:]
        return taken
