"""The blocking client (R-11)."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

from sessionfleet.aio import SUBMIT_SECONDS, Arguments, AsyncFleet
from sessionfleet.batch import AGE_SECONDS, SIZE, TIMEOUT_SECONDS, Batch
from sessionfleet.buffer import Unsent
from sessionfleet.chunk import Chunk
from sessionfleet.consumer import BATCH
from sessionfleet.consumer_blocking import Consumer
from sessionfleet.envelope import Letter
from sessionfleet.event import Event
from sessionfleet.event_stream import EventStream
from sessionfleet.handle import CALL_SECONDS, Handle
from sessionfleet.loop_thread import LoopThread
from sessionfleet.request import Answer, next_page
from sessionfleet.scope import to_end, to_start, unless_ended
from sessionfleet.servers import Servers
from sessionfleet.session_frames import Frames


class Fleet:
    """A fleet of session workers, seen from a program with threads.

    ``with Fleet.connect() as fleet: fleet.call("session.get", session_id=...)``. One object serves
    any number of threads, with one reader for all their answers; make one per process and keep it.
    After a fork the child's first calls, from however many threads, open connections of its own.
    Nothing is connected before the first call.
    """

    def __init__(self, servers: Servers, submit_timeout: float = SUBMIT_SECONDS, buffer: int = 0) -> None:
        self.servers = servers
        self.submit_timeout = submit_timeout
        self._buffer = buffer
        self._open()
        _MADE.add(self)

    def _open(self) -> None:
        self._loop: LoopThread | None = None
        self._loop_made = threading.Lock()
        self._closing = threading.RLock()
        self._remote = AsyncFleet(self.servers, self.submit_timeout, self._buffer)

    @classmethod
    def connect(
        cls,
        url: str | None = None,
        *,
        broker_url: str | None = None,
        result_url: str | None = None,
        cache_url: str | None = None,
        channel_prefix: str | None = None,
        submit_timeout: float = SUBMIT_SECONDS,
        buffer: int = 0,
    ) -> Self:
        """A client of the fleet whose Redis is at ``url``.

        ``url`` is what the fleet has as FLEET_REDIS_URL; the three databases follow from it. Each
        can be given by itself. What is not given comes from FLEET_BROKER_URL, FLEET_RESULT_URL and
        FLEET_CACHE_URL, else from FLEET_REDIS_URL; ``channel_prefix`` from FLEET_CHANNEL_PREFIX.
        Raises :class:`ValidationFailed` when a server is named nowhere. ``submit_timeout`` (seconds)
        bounds every send; an absent or frozen broker is :class:`Unavailable` by then (B-12).

        ``buffer``: up to so many messages of :meth:`send` that the broker does not take are kept in
        memory, in order, and sent when it is back; one more is :class:`BufferFull`. They die with
        the process. What waits for an answer is never kept: it waits for those before it, and is
        :class:`Unavailable` by submit_timeout.
        """
        return cls(
            Servers.find(
                url,
                broker_url=broker_url,
                result_url=result_url,
                cache_url=cache_url,
                channel_prefix=channel_prefix,
            ),
            submit_timeout,
            buffer,
        )

    def call(
        self,
        name: str,
        /,
        timeout: float = CALL_SECONDS,
        *,
        deadline: float | None = None,
        message_priority: str | None = None,
        **arguments: Any,
    ) -> Answer:
        """Send an operation and wait for its answer.

        ``name`` is a wire name of ``docs/tasks.md``, ``arguments`` are those of its message, which
        is checked before it leaves. Writes get an idempotency key unless one is given. ``deadline``
        (seconds from now, writes only): no worker starts it later. ``message_priority`` (critical,
        high, medium, low): its place in the queue. Raises the typed errors of the operation;
        :class:`CallTimeout` after ``timeout`` seconds: it may still happen, and the same call with
        the key in its ``details`` is safe.
        """
        until = time.monotonic() + timeout
        handle = self.submit(name, deadline=deadline, message_priority=message_priority, **arguments)
        return handle.result(max(0.0, until - time.monotonic()))

    def submit(
        self,
        name: str,
        /,
        *,
        deadline: float | None = None,
        message_priority: str | None = None,
        **arguments: Any,
    ) -> Handle:
        """Send an operation without waiting for its answer. Raises :class:`Unavailable` within
        submit_timeout when the broker does not take it; it may have been taken even then."""
        remote = self._remote
        letter = remote.letter(name, arguments, deadline=deadline, message_priority=message_priority)
        until = time.monotonic() + self.submit_timeout
        self._listen(remote, letter)
        handle = Handle(letter.request)
        remote.replies.expect(handle)
        remote.publish(letter, until=until)
        return handle

    def submit_many(self, calls: Iterable[tuple[str, Arguments]]) -> list[Handle]:
        """Send many operations in one round trip, each ``(name, arguments)`` a message of its own; their handles
        in that order. A tenth of the cost of so many :meth:`submit`.

        Nothing is sent when one of them is refused for its arguments. :class:`Unavailable` within submit_timeout
        when the broker does not take them: any may have been taken even then.
        """
        remote = self._remote
        letters = [remote.letter(name, dict(arguments)) for name, arguments in calls]
        until = time.monotonic() + self.submit_timeout
        self._listen(remote, *letters)
        handles = [Handle(letter.request) for letter in letters]
        remote.replies.expect(*handles)
        remote.publish(*letters, until=until)
        return handles

    def _listen(self, remote: AsyncFleet, *letters: Letter) -> None:
        if not remote.replies.listening:
            self._run().run(remote.ready(*letters))

    def send(
        self,
        name: str,
        /,
        *,
        deadline: float | None = None,
        message_priority: str | None = None,
        **arguments: Any,
    ) -> str:
        """Send an operation whose answer nobody wants; gives its task id. Half the cost of
        :meth:`submit` for the worker."""
        remote = self._remote
        letter = remote.letter(name, arguments, False, deadline=deadline, message_priority=message_priority)
        until = time.monotonic() + self.submit_timeout
        remote.publish(letter, until=until, ignore_result=True)
        return letter.request.task_id

    def get(self, session_id: str, min_version: int = 0, timeout: float = CALL_SECONDS) -> Answer:
        """A session's document by either id: straight from the fleet's cache, without a worker, when it is there
        and its ``state_version`` is at least ``min_version``; else the answer of ``session.get``.

        What is answered was committed, and may be as much behind the last commit as the cache, which
        workers write after each commit. To read your own writes, pass the ``state_version`` of the last answer: it is
        that state or a later one. Asks a worker in the last minute before the deadline, which only the
        database clock may judge; so a session that reads as live had not expired, if this host's clock
        is right within 60 s. Raises what ``session.get`` raises.
        """
        return self._run().run(self._remote.get(session_id, min_version, timeout))

    def batch(self, size: int = SIZE, age: float = AGE_SECONDS, timeout: float = TIMEOUT_SECONDS) -> Batch:
        """Collect operations on sessions and send many in one message: ``with fleet.batch() as batch:
        batch.add("session.append_output", session_id=..., content=...)``.

        Sent once ``size`` (1..1000) operations wait or the oldest is ``age`` seconds old, the
        rest at the end of the block, in the order in which they were added, one message at a time. Each
        operation is one for itself: ``add`` gives a handle with its ``result()``. What failed and
        was never asked for is raised at the end of the block. ``timeout`` (seconds) bounds the time
        of an operation from ``add`` to its answer, repeats included.
        """
        return Batch(self._run(), self._remote, size, age, timeout)

    def iterate(self, name: str, /, timeout: float = CALL_SECONDS, **filters: Any) -> Iterator[Answer]:
        """All items of a paged read such as ``session.list``, page by page (Q-03); ``timeout`` is
        for one page."""
        page: dict[str, Any] | None = filters
        while page is not None:
            answer = self.call(name, timeout, **page)
            yield from answer["items"]
            page = next_page(page, answer)

    @contextmanager
    def session_scope(self, **arguments: Any) -> Iterator[Answer]:
        """A session for the length of a block (A-17): created with ``arguments`` and started, then
        completed, or failed with the exception, which goes on to the caller. Yields the document.
        A session that the block ended itself is left as it is."""
        document = self.call("session.create", **arguments)
        if step := to_start(document):
            document = self.call(step[0], **step[1])
        try:
            yield document
        except BaseException as error:
            with unless_ended(error):
                name, more = to_end(document, error)
                self.call(name, **more)
            raise
        with unless_ended():
            name, more = to_end(document)
            self.call(name, **more)

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
    ) -> EventStream[Event]:
        """Follow the events of one session, or of all (D-15).

        One session (uuid or external id): every event after ``after_seq`` once, in order, without
        gap, whatever happens to Redis meanwhile; without ``after_seq``, what happens from now on.
        What was missed comes from Redis, where that has all of it, else from PostgreSQL. Ends after the
        session has ended. All sessions: in commit order from now on, or after the Stream id
        ``after``, for as long as the Stream holds it (about 100,000 events).

        Beside events it yields marks (``event.is_mark``): one ``replay_end`` when everything that had
        happened by now has been handed out, and as the last item an ``end`` with its ``reason``: the
        terminal status, ``deleted``, ``timeout`` or ``closed``. ``marks=False`` leaves both out.

        ``types`` hands out only these event names or types. ``timeout`` ends the iteration after so
        many seconds without one. ``ping`` yields a mark ``ping`` after so many quiet seconds.
        Subscribed when this returns; raises :class:`SessionNotFound`, :class:`ValidationFailed` for an
        ``after_seq`` beyond the session's last event, or :class:`Unavailable`.
        """
        remote = self._remote
        return EventStream(
            self._run(),
            remote.subscribe(
                session_id, after_seq, after=after, types=types, timeout=timeout, ping=ping, marks=marks
            ),
        )

    def output(
        self,
        session_id: str,
        after_chunk: int | None = 0,
        *,
        timeout: float | None = None,
        ping: float | None = None,
        marks: bool = True,
    ) -> EventStream[Chunk]:
        """Follow the output of a session (uuid or external id), as :class:`Chunk` (C-04).

        Every chunk after ``after_chunk`` once, in order; None begins with what is written from now on.
        Ends when the session has ended and all it wrote has been handed out. Chunks that left the
        output buffer before the reader came are counted in ``missed`` of the next. ``timeout``,
        ``ping`` and ``marks`` are those of :meth:`subscribe`, and so are the errors.
        """
        remote = self._remote
        return EventStream(
            self._run(), remote.output(session_id, after_chunk, timeout=timeout, ping=ping, marks=marks)
        )

    def consume(
        self, group: str, consumer: str | None = None, *, batch: int = BATCH, timeout: float | None = None
    ) -> Consumer:
        """Take events as one consumer of a group: session_handlers, file_watchers, git_monitors or
        system_monitors (D-11).

        Every event of every session goes to one consumer of each group, which says ``delivery.ack()``
        when it is handled or ``delivery.fail(reason)``. One that got neither for 30 seconds goes to
        whoever asks next, so a ``batch`` (1 to 100 taken at once) must be handled by then; after 3
        deliveries it is a dead letter (``event.dead_letters``). At least once: ``event.event_id`` tells
        a repeat. Order is kept as far as nothing comes again. A consumer that holds 100 gets no more.

        A group reads what ``stream:events`` holds: about 100,000 events, 7 days. ``consumer`` is its name,
        of its own by default. ``timeout`` ends the iteration after so many seconds without an event.
        Lost connections are made again; the first one raises :class:`Unavailable`.
        """
        remote = self._remote
        return Consumer(self._run(), remote.consume(group, consumer, batch=batch, timeout=timeout))

    def frames(
        self,
        session_id: str,
        after_seq: int | None = None,
        after_chunk: int | None = 0,
        *,
        timeout: float | None = None,
        ping: float | None = 15.0,
    ) -> Frames:
        """A session (uuid or external id) for a terminal or a websocket, as frames (R-09).

        Frames are JSON objects with a ``type``: one ``connected``; then ``output`` with every chunk after
        ``after_chunk`` and ``status`` with every change of state after ``after_seq`` (None: from now on), each
        once and in order; ``ping`` after so many quiet seconds; ``error``; at last one ``terminated`` with its
        reason, whatever happens. ``frames.send`` takes ``get_status`` and ``input``. Schemas:
        :mod:`sessionfleet.frames`. Who comes back passes the last ``seq`` and ``chunk_no``.
        """
        remote = self._remote
        return Frames(self._run(), remote.frames(session_id, after_seq, after_chunk, timeout=timeout, ping=ping))

    def flush(self, timeout: float) -> list[Unsent]:
        """Wait until the broker has what the buffer kept, at most ``timeout`` seconds; answers what it has
        not, the oldest first. Empty without a buffer."""
        buffer = self._remote.buffer
        return [] if buffer is None else buffer.flush(timeout)

    def close(self) -> list[Unsent]:
        """Close all connections and the reader. Calls that still wait end in their time-out, subscriptions
        with their end mark, consumers without one. Messages in the buffer get submit_timeout to go out; answers
        those that did not, and logs how many. A call after it connects anew; close again then."""
        with self._closing:  # by one thread; others find it closed
            buffer = self._remote.buffer
            unsent = [] if buffer is None else buffer.close(self.submit_timeout)
            if self._loop is None:
                self._remote.publisher.close()
            else:
                self._loop.run(self._remote.end())
                self._loop.stop()
                self._loop = None
            return unsent

    def _run(self) -> LoopThread:
        with self._loop_made:  # first calls of several threads: two loops would share one reader
            if self._loop is None:
                self._loop = LoopThread()
            return self._loop

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_MADE: WeakSet[Fleet] = WeakSet()


def _opened_anew() -> None:
    """In a forked child, while it has one thread only: loops and sockets do not survive a fork, and threads that
    found that out by themselves would race for the new ones."""
    for fleet in _MADE:
        fleet._open()  # noqa: SLF001 - its own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_opened_anew)
