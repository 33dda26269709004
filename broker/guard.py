"""A Celery consumer that no message ends.

An error out of Celery's task handlers, which ends a stock worker, puts the message into quarantine. So do
messages stock Celery forgets: unknown task names, bodies it cannot decode, arguments it refuses. Whoever waits
for an answer gets a typed error, if the app knows one:

- ``app.unknown_task_error(name) -> Exception``
- ``app.unreadable_message_error(reason) -> Exception``
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from time import monotonic
from types import SimpleNamespace
from typing import Any

from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.concurrency.solo import TaskPool as SoloPool
from celery.exceptions import WorkerTerminate
from celery.platforms import EX_FAILURE
from celery.worker import state
from redis.exceptions import ResponseError

from broker import limits
from broker.collecting import Collector
from broker.consumer import AnsweringConsumer
from broker.liveness import Heartbeat
from broker.quarantine import set_aside
from broker.tidings import Tidings
from broker.waiting import Waiting

log = logging.getLogger(__name__)

RETRY = {"interval_start": 0.5, "interval_step": 0.5, "interval_max": 1}
"""Seconds between two tries to reach a broker that is away; Celery's own grow to half a minute."""

TOLD_EVERY = 30.0
"""Seconds between two log lines about such tries."""

EVENTS_WAIT = 0.1
"""Seconds that task events are collected before they are published together."""


class GuardedConsumer(AnsweringConsumer):
    """Set it as ``worker_consumer``. Works with the safe channel and, with a window between quarantine and
    acknowledgement, with kombu's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._heartbeat: Heartbeat | None = None
        self._waiting: Waiting | None = None
        self._events_due = 0.0
        if isinstance(self.pool, SoloPool):
            self.pool.on_apply = limits.apply_limited
        elif isinstance(self.pool, PreforkPool):
            self.pool.did_start_ok = partial(_did_start, self.pool)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """Upstream's handler with what it lets out caught: connection errors go on up, all else is about the
        message. kombu counts every KeyError and OSError as a lost connection; most of them are none, and the
        message would come back to do it again."""
        handle = super().create_task_handler(*args, **kwargs)
        named = (error for error in self.connection_errors if error not in (KeyError, OSError))
        passes = (*named, ConnectionError, TimeoutError, ResponseError)
        semaphore = getattr(self.controller, "semaphore", None)

        def guarded(message: Any) -> None:
            free = semaphore.value if semaphore is not None else 0
            try:
                handle(message)
            except passes:
                raise
            except Exception as error:
                log.exception("a message could not be handled")
                if semaphore is not None and semaphore.value < free:
                    semaphore.release()  # the place in the pool that was taken for it
                self._refuse(message, f"{type(error).__name__}: {error}")

        collector = self._collector(guarded)
        if collector is None:
            return guarded

        def on_task_received(message: Any) -> None:
            if not collector.takes(message):
                collector.flush()  # what came before is done before
                guarded(message)

        return on_task_received

    def _collector(self, one_by_one: Callable[[Any], None]) -> Collector | None:
        """The collector for this connection's deliveries; None where nothing is collected: without the safe
        channel or an event loop, in pools whose tasks run elsewhere, for apps that name no tasks."""
        channel, names = self.task_consumer.channel, getattr(self.app, "collected_tasks", None)
        if not names or not isinstance(self.pool, SoloPool) or not hasattr(channel, "delivered") or self.hub is None:
            return None
        if self._waiting is not None:
            self._waiting.drop()  # what the lost connection had comes again
        self._waiting = Waiting(self)
        conf = self.app.conf
        limits_ = (conf.task_soft_time_limit, conf.task_time_limit)
        collector = Collector(names, self.app.run_collected, one_by_one, Tidings(self), self._waiting, limits_)
        channel.delivered = collector.flush
        return collector

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """A body nobody can read, or of a type that is not accepted."""
        self._refuse(message, f"body cannot be decoded: {exc}")

    def on_unknown_message(self, _body: Any, message: Any) -> None:
        """A message that names no task."""
        self._refuse(message, "names no task")

    def on_invalid_task(self, _body: Any, message: Any, exc: Exception) -> None:
        """A task message whose parts do not fit together."""
        self._refuse(message, f"not a valid task message: {exc}")

    def on_unknown_task(self, _body: Any, message: Any, _exc: Exception) -> None:
        """Answers as :class:`AnsweringConsumer` does; the message is kept, a newer release may know the name."""
        headers = message.headers or {}
        name, task_id = headers.get("task"), headers.get("id")
        set_aside(message, f"unknown task {name}")
        make_error = getattr(self.app, "unknown_task_error", None)
        if task_id is not None and make_error is not None:
            self._answer(message, task_id, name, make_error(name))

    def _refuse(self, message: Any, reason: str) -> None:
        if not message.acknowledged:
            set_aside(message, reason)
        headers = message.headers or {}
        task_id, make_error = headers.get("id"), getattr(self.app, "unreadable_message_error", None)
        if isinstance(task_id, str) and make_error is not None:
            self._answer(message, task_id, str(headers.get("task")), make_error(reason))

    def _answer(self, message: Any, task_id: str, name: str | None, error: Exception) -> None:
        request = SimpleNamespace(
            name=name,
            chord=None,
            root_id=(message.headers or {}).get("root_id"),
            correlation_id=message.properties.get("correlation_id"),
            reply_to=message.properties.get("reply_to"),
            errbacks=None,
        )
        self.app.backend.mark_as_failure(task_id, error, request=request)
        if self.event_dispatcher:
            self.event_dispatcher.send("task-failed", uuid=task_id, exception=repr(error))

    def on_send_event_buffered(self) -> None:
        """As upstream, which publishes with each turn of the loop; events for those who watch need not cost a busy
        worker a round trip a task."""
        if self.hub is None or monotonic() < self._events_due:
            return
        self._events_due = monotonic() + EVENTS_WAIT
        self.hub.call_later(EVENTS_WAIT, self._flush_events)

    def stop(self) -> None:
        """As upstream, without what makes a stop of a prefork pool hang: :meth:`_settle_jobs`."""
        self._settle_jobs()
        super().stop()

    def cancel_active_requests(self) -> None:
        """As upstream; a task in this very thread, where upstream fails, is broken off and handed back."""
        if not isinstance(self.pool, SoloPool):
            self._settle_jobs()  # the pool ends next, inside the signal's handler
            super().cancel_active_requests()
        elif any(not request.acknowledged for request in tuple(state.active_requests)):
            raise WorkerTerminate(EX_FAILURE)

    def _settle_jobs(self) -> None:
        """Decide about jobs that no child of the pool was heard to accept.

        One that a child has will be run: upstream forgets it, its message goes back to be run again, and the child
        waits half a minute to be heard. One that it has not will never get there: upstream waits for it for ever. A
        child that has a part of it does nothing but wait for the rest, and is ended.
        """
        for job in tuple(getattr(getattr(self.pool, "_pool", None), "_cache", {}).values()):
            child, writer = getattr(job, "_write_to", None), getattr(job, "_writer", None)
            if getattr(job, "_accepted", True):
                continue
            if child is not None and writer is not None and writer() is None:
                job._accepted = True  # noqa: SLF001 - the pool has no public place for it
                continue
            job.discard()
            if child is not None:
                child.terminate()

    def ensure_connected(self, conn: Any) -> Any:
        """As upstream, with tries close enough together to be back soon after the broker is, however long it was
        away, and without a log line for each."""
        conn.ensure_connection = partial(_ensure_soon, conn.ensure_connection)
        return super().ensure_connected(conn)

    def register_with_event_loop(self, hub: Any) -> None:
        """As upstream; tasks in the loop's own thread must not make a busy worker look dead."""
        super().register_with_event_loop(hub)
        channel = self.task_consumer.channel
        if isinstance(self.pool, SoloPool) and hasattr(channel, "separate_pool"):
            if self._heartbeat is not None:
                self._heartbeat.stop()
            self._heartbeat = Heartbeat(channel)
            self._heartbeat.start()


def _did_start(pool: Any) -> bool:
    """Whether a child lives. Upstream asks for all of them, and gives the worker up for one killed before the
    loop began; the pool replaces it as it does any later one."""
    return any(child.is_alive() for child in pool._pool._pool)  # noqa: SLF001 - the pool has no public place for it


def _ensure_soon(ensure: Callable[..., Any], tell: Callable[..., None], *args: Any, **kwargs: Any) -> Any:
    tell_at = 0.0

    def tell_seldom(*about: Any) -> None:
        nonlocal tell_at
        if monotonic() >= tell_at:
            tell_at = monotonic() + TOLD_EVERY
            tell(*about)

    return ensure(tell_seldom, *args, **kwargs, **RETRY)
