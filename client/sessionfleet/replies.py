"""Answers of operations: one reader per client, whatever number of calls is waiting.

A client draws a mark once and listens on ONE channel of that name, subscribed before anything is sent; each of its
messages names the channel, and a worker publishes all answers it has for the client at once. Nothing is subscribed
or unsubscribed per call. What pub/sub may lose - a restarted server, a cut connection - is looked for after each
(re)connection and on a slow timer: the fleet is asked for what PostgreSQL holds under the idempotency keys of writes;
of what is not kept there a copy lies ready by task id for half a minute. Large answers are read from copies only.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any
from weakref import WeakValueDictionary

from redis.asyncio import Redis

from sessionfleet.errors import FleetError, Unavailable
from sessionfleet.feed import LOST, Feed, client, end, goes_on
from sessionfleet.handle import Sent, Stored
from sessionfleet.jsontext import decode
from sessionfleet.names import ANSWER, LARGE, REPLIES
from sessionfleet.request import READY

CHECK_SECONDS = 2.0
"""How often waiting answers are looked up by key, in case their message was lost."""

SILENT_SECONDS = 5.0
"""After so long without an answer the fleet is asked whether it has one for a write."""

FETCH_AT_ONCE = 500
PAUSE = 0.1
MAX_PAUSE = 1.0


class Replies:
    """Reads the answers of all calls of one client.

    ``new_id`` and ``expect`` may be called from any thread; ``start`` and ``close`` belong to the
    event loop the reader runs in. ``ask`` gets the answers the fleet has stored under idempotency keys.
    """

    def __init__(self, result_url: str, ask: Callable[[list[str]], Awaitable[Stored]]) -> None:
        self._url = result_url
        self._ask = ask
        self._asking: asyncio.Task[None] | None = None
        self._mark = secrets.token_hex(6)
        self.channel = f"{REPLIES}{self._mark}"
        """Where workers publish this client's answers."""
        self._waiting: WeakValueDictionary[str, Sent] = WeakValueDictionary()
        self._lock = threading.Lock()
        self._task: asyncio.Task[None] | None = None
        self._subscribed: asyncio.Event | None = None
        self._trouble: BaseException | None = None

    def new_id(self) -> str:
        """A fresh task id of this client, a version 8 uuid."""
        mark, drawn = self._mark, secrets.token_hex(9)
        return f"{mark[:8]}-{mark[8:]}-8{drawn[:3]}-8{drawn[3:6]}-{drawn[6:]}"

    def expect(self, *operations: Sent) -> None:
        """Wait for their answers from now on, of each as long as it is kept."""
        with self._lock:
            for sent in operations:
                self._waiting[sent.task_id] = sent

    @property
    def listening(self) -> bool:
        """Whether the reader has been subscribed and runs: :meth:`start` would return at once."""
        return goes_on(self._task) and self._subscribed is not None and self._subscribed.is_set()

    async def start(self, timeout: float) -> None:
        """Return once the reader has been subscribed; :class:`Unavailable` after ``timeout`` seconds.

        Only the first call waits: later outages are the reader's business, the answers that come
        meanwhile are fetched afterwards.
        """
        if self._subscribed is None or not goes_on(self._task):
            self._subscribed = asyncio.Event()
            self._task = asyncio.create_task(self._run(self._subscribed), name="sessionfleet-replies")
        try:
            async with asyncio.timeout(timeout):
                await self._subscribed.wait()
        except TimeoutError:
            reason = str(self._trouble or "") or "it does not answer"
            raise Unavailable(service="the result store", reason=reason) from self._trouble

    async def close(self) -> None:
        """Stop reading. Answers still waited for never come."""
        await end(*(task for task in (self._task, self._asking) if task is not None))
        self.forget()

    def forget(self) -> None:
        """The reader is gone, with its loop: the next :meth:`start` makes another one."""
        self._task = self._subscribed = self._asking = None

    async def _run(self, subscribed: asyncio.Event) -> None:
        pause = PAUSE
        redis = client(self._url)
        try:
            while True:
                try:
                    async with Feed(redis, self.channel) as feed:
                        pause = PAUSE
                        await self._fetch(redis, self._wanted())
                        subscribed.set()
                        self._ask_for_silent_ones(0)
                        await self._read(redis, feed)
                except LOST as error:
                    self._trouble = error
                await asyncio.sleep(pause)
                pause = min(pause * 2, MAX_PAUSE)
        finally:
            await redis.aclose()

    async def _read(self, redis: Redis, feed: Feed) -> None:
        loop = asyncio.get_running_loop()
        check_at = loop.time() + CHECK_SECONDS
        while True:
            heard = await feed.get(max(0.0, check_at - loop.time()))
            if heard is not None and (large := self._heard(heard)):
                await self._fetch(redis, large, at_once=1)
            if loop.time() >= check_at:
                await self._fetch(redis, self._wanted())
                self._ask_for_silent_ones(SILENT_SECONDS)
                check_at = loop.time() + CHECK_SECONDS

    def _wanted(self) -> list[str]:
        with self._lock:
            return list(self._waiting)

    async def _fetch(self, redis: Redis, wanted: list[str], at_once: int = FETCH_AT_ONCE) -> None:
        for start in range(0, len(wanted), at_once):
            ids = wanted[start : start + at_once]
            found: Any = await redis.mget([ANSWER + task_id for task_id in ids])
            for data in found:
                if data is not None:
                    self._heard(b"[" + data + b"]")

    def _ask_for_silent_ones(self, seconds: float) -> None:
        """Writes that got no answer for so long, one question at a time: it is answered like any call."""
        if self._asking is not None and not self._asking.done():
            return
        silent = monotonic() - seconds
        with self._lock:
            waiting = [
                (sent.idempotency_key, sent.task_id)
                for sent in self._waiting.values()
                if sent.idempotency_key and sent.since < silent
            ]
        if waiting:
            self._asking = asyncio.create_task(self._find_stored(waiting), name="sessionfleet-stored")

    async def _find_stored(self, waiting: list[tuple[str, str]]) -> None:
        for start in range(0, len(waiting), FETCH_AT_ONCE):
            wanted = set(waiting[start : start + FETCH_AT_ONCE])
            keys = list({key for key, _ in wanted})
            while keys:
                try:
                    found = await self._ask(keys)
                except FleetError:
                    return  # asked again with the next look
                for one in found["items"]:
                    if (one["idempotency_key"], one["task_id"]) in wanted:  # else it is of another call with that key
                        self._arrived({"status": "SUCCESS", "result": one["answer"], "task_id": one["task_id"]})
                keys = found.get("left", [])  # too large for one answer

    def _heard(self, data: bytes) -> list[str]:
        """Hands out the answers of a message; the task ids of those that are large."""
        try:
            answers = decode(data)
        except ValueError:
            return []  # not from a worker; the answer proper is fetched by key
        large = []
        for stored in answers if isinstance(answers, list) else ():
            if not isinstance(stored, dict) or not isinstance(stored.get("task_id"), str):
                continue
            status = stored.get("status")
            if status == LARGE:
                large.append(stored["task_id"])
            elif isinstance(status, str) and status in READY:
                self._arrived(stored)
        return large

    def _arrived(self, stored: Stored) -> None:
        with self._lock:
            sent = self._waiting.pop(stored["task_id"], None)
        if sent is not None:
            sent.arrive(stored)
