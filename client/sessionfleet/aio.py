"""The asynchronous client (R-11)."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeVar
from weakref import WeakSet

from sessionfleet.batch import AGE_SECONDS, SIZE, TIMEOUT_SECONDS, AsyncBatch
from sessionfleet.buffer import SendBuffer, Unsent
from sessionfleet.cached import CachedDocuments
from sessionfleet.chunk import Chunk
from sessionfleet.consumer import BATCH, AsyncConsumer
from sessionfleet.envelope import Letter, message_of
from sessionfleet.errors import Unavailable, ValidationFailed
from sessionfleet.event import Event
from sessionfleet.fleet_events import FleetEvents
from sessionfleet.handle import CALL_SECONDS, LONGEST_SECONDS, AsyncHandle
from sessionfleet.outbox import Outbox
from sessionfleet.publisher import AT_ONCE, CONNECTIONS, AsyncPublisher, Publisher
from sessionfleet.replies import Replies
from sessionfleet.request import Answer, next_page, prepare
from sessionfleet.scope import to_end, to_start, unless_ended
from sessionfleet.servers import Servers
from sessionfleet.session_events import SessionEvents
from sessionfleet.session_frames import AsyncFrames, SessionFrames
from sessionfleet.session_output import SessionOutput
from sessionfleet.source import Source
from sessionfleet.subscription import Subscription

SUBMIT_SECONDS = 5.0
STORED_SECONDS = 10.0
"""How long to wait for what the fleet has stored under keys."""

Arguments = Mapping[str, Any]
R = TypeVar("R")
S = TypeVar("S", bound=Subscription[Any] | AsyncConsumer)
ENTRY_ID = re.compile(r"\d+-\d+")


class AsyncFleet:
    """A fleet of session workers, seen from an asyncio program.

    ``async with AsyncFleet.connect() as fleet: await fleet.call("session.get", session_id=...)``.
    One object serves any number of tasks of ONE event loop; another loop may have it once that one is closed.
    Nothing is connected before the first call.
    """

    def __init__(self, servers: Servers, submit_timeout: float = SUBMIT_SECONDS, buffer: int = 0) -> None:
        if not 0 < submit_timeout <= LONGEST_SECONDS:
            raise ValidationFailed.of("submit_timeout", "must be a number of seconds above 0")
        self.servers = servers
        self.submit_timeout = submit_timeout
        self.replies = Replies(servers.result_url, self._stored_answers)
        self.publisher = Publisher(servers.broker_url, submit_timeout)
        self.buffer = SendBuffer(self.publisher, buffer, submit_timeout) if buffer else None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begin()
        self._following: WeakSet[Subscription[Any] | AsyncConsumer] = WeakSet()
        self._threads: ThreadPoolExecutor | None = None
        self._jobs: set[asyncio.Future[Any]] = set()

    def _begin(self) -> None:
        self._sender = AsyncPublisher(self.servers.broker_url, self.submit_timeout)
        self.outbox = Outbox(self._sender.publish, AT_ONCE)
        self._documents = CachedDocuments(self.servers.cache_url)

    @classmethod
    def connect(
        cls, url: str | None = None, *, submit_timeout: float = SUBMIT_SECONDS, buffer: int = 0, **servers: Any
    ) -> Self:
        """A client of the fleet at ``url``; see :meth:`Fleet.connect` for the arguments."""
        return cls(Servers.find(url, **servers), submit_timeout, buffer)

    async def call(
        self,
        name: str,
        /,
        timeout: float = CALL_SECONDS,
        *,
        deadline: float | None = None,
        message_priority: str | None = None,
        **arguments: Any,
    ) -> Answer:
        """Send an operation and wait for its answer; see :meth:`Fleet.call`."""
        until = time.monotonic() + timeout
        handle = await self.submit(name, deadline=deadline, message_priority=message_priority, **arguments)
        return await handle.result(max(0.0, until - time.monotonic()))

    async def submit(
        self,
        name: str,
        /,
        *,
        deadline: float | None = None,
        message_priority: str | None = None,
        **arguments: Any,
    ) -> AsyncHandle:
        """Send an operation without waiting for its answer; see :meth:`Fleet.submit`."""
        letter = self.letter(name, arguments, deadline=deadline, message_priority=message_priority)
        until = time.monotonic() + self.submit_timeout
        await self.ready(letter)
        handle = AsyncHandle(letter.request)
        self.replies.expect(handle)
        await self._publish(letter, until=until)
        return handle

    async def submit_many(self, calls: Iterable[tuple[str, Arguments]]) -> list[AsyncHandle]:
        """Send many operations in one round trip; see :meth:`Fleet.submit_many`."""
        letters = [self.letter(name, dict(arguments)) for name, arguments in calls]
        until = time.monotonic() + self.submit_timeout
        await self.ready(*letters)
        handles = [AsyncHandle(letter.request) for letter in letters]
        self.replies.expect(*handles)
        await self._publish(*letters, until=until)
        return handles

    async def send(
        self,
        name: str,
        /,
        *,
        deadline: float | None = None,
        message_priority: str | None = None,
        **arguments: Any,
    ) -> str:
        """Send an operation whose answer nobody wants; see :meth:`Fleet.send`."""
        letter = self.letter(name, arguments, False, deadline=deadline, message_priority=message_priority)
        until = time.monotonic() + self.submit_timeout
        await self._publish(letter, until=until, ignore_result=True)
        return letter.request.task_id

    async def get(self, session_id: str, min_version: int = 0, timeout: float = CALL_SECONDS) -> Answer:
        """A session's document from the cache, else by ``session.get``; see :meth:`Fleet.get`."""
        self._in_its_loop()
        cached = await self._documents.find(session_id, min_version)
        if cached is not None:
            return cached
        return await self.call("session.get", timeout, session_id=session_id, min_version=min_version)

    def batch(self, size: int = SIZE, age: float = AGE_SECONDS, timeout: float = TIMEOUT_SECONDS) -> AsyncBatch:
        """Collect operations and send many in one message; see :meth:`Fleet.batch`. ``await batch.add(...)``."""
        return AsyncBatch(self, size, age, timeout)

    async def iterate(self, name: str, /, timeout: float = CALL_SECONDS, **filters: Any) -> AsyncIterator[Answer]:
        """All items of a paged read; see :meth:`Fleet.iterate`."""
        page: dict[str, Any] | None = filters
        while page is not None:
            answer = await self.call(name, timeout, **page)
            for item in answer["items"]:
                yield item
            page = next_page(page, answer)

    @asynccontextmanager
    async def session_scope(self, **arguments: Any) -> AsyncIterator[Answer]:
        """A session for the length of a block; see :meth:`Fleet.session_scope`."""
        document = await self.call("session.create", **arguments)
        if step := to_start(document):
            document = await self.call(step[0], **step[1])
        try:
            yield document
        except BaseException as error:
            with unless_ended(error):
                name, more = to_end(document, error)
                await self.call(name, **more)
            raise
        with unless_ended():
            name, more = to_end(document)
            await self.call(name, **more)

    async def _stored_answers(self, keys: list[str]) -> dict[str, Any]:
        return await self.call("session.answers", STORED_SECONDS, message_priority="critical", keys=keys)

    async def ready(self, *letters: Letter) -> None:
        """Hear answers from now on, for the sake of ``letters``; :class:`Unavailable` when that takes more than
        the part of submit_timeout that sending can spare. The first call does it."""
        self._in_its_loop()
        if not self.replies.listening:
            try:
                await self.replies.start(self.submit_timeout - self.publisher.attempt_seconds)
            except Unavailable as error:
                if not letters:
                    raise
                raise letters[0].request.own(error) from error.__cause__

    def subscribe(
        self,
        session_id: str | None = None,
        after_seq: int | None = None,
        *,
        after: str | None = None,
        types: Collection[str] | None = None,
        timeout: float | None = None,
        ping: float | None = None,
        marks: bool = True,
    ) -> Subscription[Event]:
        """Follow events; see :meth:`Fleet.subscribe`. Use it with ``async with`` or ``async for``."""
        source: Source[Event]
        if session_id is not None:
            if after is not None:
                raise ValidationFailed.of("after", "is a Stream id of all sessions; one session goes by after_seq")
            source = SessionEvents(self.servers, self.call, session_id, after_seq, self.submit_timeout)
        else:
            if after_seq is not None:
                raise ValidationFailed.of("after_seq", "counts within one session: give session_id too")
            if after is not None and not ENTRY_ID.fullmatch(after):
                raise ValidationFailed.of("after", "must be a Stream id like 1234-5")
            source = FleetEvents(self.servers, after, self.submit_timeout)
        if isinstance(types, str):
            raise ValidationFailed.of("types", "must be a list of names")
        names = None if types is None else frozenset(types)

        def wanted(event: Event) -> bool:
            return (
                marks
                if event.is_mark
                else names is None or not names.isdisjoint((event.event_name, event.event_type))
            )

        return self._follow(Subscription(source, wanted=wanted, timeout=timeout, ping=ping, marks=marks))

    def output(
        self,
        session_id: str,
        after_chunk: int | None = 0,
        *,
        timeout: float | None = None,
        ping: float | None = None,
        marks: bool = True,
    ) -> Subscription[Chunk]:
        """Follow a session's output; see :meth:`Fleet.output`. Use it with ``async with`` or ``async for``."""
        source = SessionOutput(self.servers, self.call, session_id, after_chunk, self.submit_timeout)
        return self._follow(
            Subscription(
                source, wanted=lambda chunk: marks or not chunk.is_mark, timeout=timeout, ping=ping, marks=marks
            )
        )

    def consume(
        self, group: str, consumer: str | None = None, *, batch: int = BATCH, timeout: float | None = None
    ) -> AsyncConsumer:
        """Take events as one consumer of a group; see :meth:`Fleet.consume`."""
        return self._follow(
            AsyncConsumer(self.servers, self.call, self.send, group, consumer, batch=batch, timeout=timeout)
        )

    def frames(
        self,
        session_id: str,
        after_seq: int | None = None,
        after_chunk: int | None = 0,
        *,
        timeout: float | None = None,
        ping: float | None = 15.0,
    ) -> AsyncFrames:
        """A session for a terminal or a websocket; see :meth:`Fleet.frames`. ``await frames.send(...)``."""
        source = SessionFrames(self.servers, self.call, session_id, after_seq, after_chunk, self.submit_timeout)
        return self._follow(AsyncFrames(source, timeout=timeout, ping=ping))

    def _follow(self, subscription: S) -> S:
        self._following.add(subscription)
        return subscription

    def _in_its_loop(self) -> None:
        """Connections and those who wait belong to one loop; in another they would wait for ever."""
        loop = asyncio.get_running_loop()
        if self._loop is loop:
            return
        if self._loop is not None and not self._loop.is_closed():
            raise RuntimeError("this AsyncFleet serves another event loop: make one for each")
        self._leave_closed_loop()
        self._loop = loop

    def _leave_closed_loop(self) -> None:
        if self._loop is not None and self._loop.is_closed():
            self._begin()  # what was connected there ended with it
            self.replies.forget()
            self._jobs = set()
            self._loop = None

    def letter(self, name: str, arguments: dict[str, Any], answered: bool = True, **options: Any) -> Letter:
        """A call as it will be sent; ``options`` are those of :func:`prepare`, and so are the errors. Not
        ``answered``: nobody waits for it."""
        request = prepare(self.replies.new_id(), name, arguments, **options)
        return Letter(request, message_of(request, self.replies.channel if answered else None))

    def publish(self, *letters: Letter, until: float, ignore_result: bool = False) -> None:
        """Send them now, from whatever thread: behind the buffer, and into it if the broker does not take them and
        nobody waits for their answers. Raises :class:`Unavailable` by ``until``, or :class:`BufferFull`."""
        if self.buffer is not None and ignore_result:
            for letter in letters:
                self.buffer.send(letter)
            return
        if self.buffer is not None and letters:
            spare = until - self.publisher.attempt_seconds - time.monotonic()
            if waiting := self.buffer.flush(spare):
                reason = f"{len(waiting)} messages of this client wait for it"
                raise Unavailable(service="the broker", reason=reason, **letters[0].request.facts)
        self.publisher.publish(letters, until)

    async def flush(self, timeout: float) -> list[Unsent]:
        """Wait for the buffer; see :meth:`Fleet.flush`."""
        buffer = self.buffer
        return [] if buffer is None else await self._in_thread(lambda: buffer.flush(timeout))

    async def _publish(self, *letters: Letter, until: float, ignore_result: bool = False) -> None:
        self._in_its_loop()
        if self.buffer is not None:
            await self._in_thread(lambda: self.publish(*letters, until=until, ignore_result=ignore_result))
        elif letters:
            await self.outbox.put(letters, until)

    async def _in_thread(self, work: Callable[[], R]) -> R:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="sessionfleet-publish")
        job = asyncio.get_running_loop().run_in_executor(self._threads, work)
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)
        return await job

    async def aclose(self) -> list[Unsent]:
        """Close all connections and threads. Calls that still wait end in their time-out, subscriptions
        with their end mark, consumers without one. Messages in the buffer get submit_timeout to go out; answers
        those that did not."""
        unsent: list[Unsent] = []
        if (buffer := self.buffer) is not None:
            unsent = await self._in_thread(lambda: buffer.close(self.submit_timeout))
        await self.end()
        return unsent

    async def end(self) -> None:
        """:meth:`aclose` without the buffer."""
        self._leave_closed_loop()
        endings = (one.aclose() for one in list(self._following))
        await asyncio.gather(*endings, return_exceptions=True)  # one of a loop that is gone may say so
        await self.outbox.close()
        await self._sender.aclose()
        await self.replies.close()
        await self._documents.aclose()
        if self._jobs:  # each ends within submit_timeout, whatever the server does
            await asyncio.wait(self._jobs)
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None
        self.publisher.close()
        self._loop = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()
