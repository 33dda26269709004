"""Waiting messages of quick tasks, executed together: natural batching.

What one fetch delivered is collected and handed to the app as one list, which it can serve with one transaction.
Nothing waits for a timer: with one message waiting the list has one. The app names the tasks and runs them:

- ``app.collected_tasks``: names of tasks whose messages may be collected;
- ``app.run_collected(calls, behind, wait=, overdue=)`` -> ``(ended, held)``: executes and answers them; or raises and
  has changed nothing. ``ended``: task id -> None, or the name of the error it ended in. ``held``: task id -> names of
  what it has to wait for, of a call that cannot run yet; it is handed over again (:mod:`broker.waiting`). Calls in
  neither go Celery's way.

Only plain messages are collected. One with a time (``eta``, ``expires``), limits of its own, a retry, callbacks,
stamps, a revoked id, or one whose consumer died before goes Celery's way, as does everything while a list fails:
then its messages are executed one by one. Celery's signals, ``inspect active`` and rate limits do not know collected
tasks; events for Flower, counters and revocation do (:mod:`broker.tidings`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from time import monotonic
from typing import Any, NamedTuple

from celery.worker import state

from broker import limits
from broker.body import plain
from broker.names import DEATHS
from broker.tidings import Tidings
from broker.waiting import Waiting

log = logging.getLogger(__name__)

MOST_BYTES = 64 * 1024
"""Bytes of messages after which what is there is executed: the loop must turn meanwhile, and so much needs no more
company."""

UNCOMMON = ("eta", "expires", "retries", "group", "stamped_headers", "compression", "replaced_task_nesting", DEATHS)
"""Headers that ask for something of Celery's own when they are set."""


class Call(NamedTuple):
    """One collected message: what a task body would see."""

    name: str
    task_id: str
    arguments: dict[str, Any]
    reply_to: str | None
    """Where the caller listens, if it says so."""
    ignore_result: bool
    message: Any
    """The delivered kombu message."""


Run = Callable[..., tuple[Mapping[str, str | None], Mapping[str, frozenset[str]]]]
"""As ``app.run_collected``."""


class Collector:
    """Collects the messages of one consumer until :meth:`flush`, which the end of a delivery calls, or until they are
    MOST_BYTES.

    ``one_by_one`` is Celery's own handler. Not thread-safe: it belongs to the consumer's loop.
    """

    def __init__(
        self,
        names: Collection[str],
        run: Run,
        one_by_one: Callable[[Any], None],
        tidings: Tidings,
        waiting: Waiting,
        time_limits: tuple[float | None, float | None] = (None, None),
    ) -> None:
        self._names = frozenset(names)
        self._run = run
        self._one_by_one = one_by_one
        self._tidings = tidings
        self._waiting = waiting
        self._limits = time_limits
        self._calls: list[Call] = []
        self._bytes = 0

    def takes(self, message: Any) -> bool:
        """Collect the message, if it is one of a collected task and plain; whether it was. Raises what :meth:`flush`
        does."""
        headers = message.headers
        if not headers or headers.get("task") not in self._names or any(map(headers.get, UNCOMMON)):
            return False
        if any(headers.get("timelimit") or ()) or headers.get("id") in state.revoked or state.revoked_stamps:
            return False
        arguments = plain_arguments(message)
        if arguments is None:
            return False
        self._calls.append(
            Call(
                headers["task"],
                headers["id"],
                arguments,
                message.properties.get("reply_to"),
                bool(headers.get("ignore_result")),
                message,
            )
        )
        self._bytes += len(message.body)
        if self._bytes >= MOST_BYTES:
            self.flush()
        return True

    def flush(self) -> None:
        """Execute what was collected. Raises what Celery's handler raises when messages have to go its way."""
        calls, self._calls, self._bytes = self._calls, [], 0
        if calls:
            names = self._waiting.names
            self._execute(calls, names, wait=not names)

    def try_again(self) -> None:
        """Execute those that wait, as far as they can now. Raises what :meth:`flush` does."""
        calls, overdue = self._waiting.take()
        for call in calls:
            if call.task_id in state.revoked:
                self._one_by_one(call.message)
        self._execute([call for call in calls if call.task_id not in state.revoked], wait=False, overdue=overdue)

    def _execute(
        self, calls: Sequence[Call], behind: Collection[str] = (), *, wait: bool, overdue: Collection[str] = ()
    ) -> None:
        began = monotonic()
        try:
            with limits.limited(*self._limits):
                ended, held = self._run(calls, behind, wait=wait, overdue=overdue)
        except (Exception, limits.TimeIsUp):
            log.warning("%d messages are executed one by one, together they failed", len(calls), exc_info=True)
            ended, held = {}, {}
        if held:
            if wait:
                log.warning("%d messages have to wait: somebody holds what they need", len(held))
            kept = [call for call in calls if call.task_id in held]
            self._waiting.add(kept, held, self.try_again, 0 if wait else monotonic() - began)
        done = [call for call in calls if call.task_id in ended]
        for call in done:
            call.message.ack_log_error(log, (OSError,))
        if done:
            failed = {call.task_id: error for call in done if (error := ended[call.task_id]) is not None}
            self._tidings.tell(done, failed, monotonic() - began)
        for call in calls:
            if call.task_id not in ended and call.task_id not in held:
                self._one_by_one(call.message)


def plain_arguments(message: Any) -> dict[str, Any] | None:
    """The keyword arguments of a message with nothing else in its body; None for any other."""
    if message.content_type != "application/json" or message.content_encoding not in ("utf-8", "utf8"):
        return None
    try:
        args, arguments, embedded = plain(message.body)
    except (ValueError, TypeError):
        return None
    if args or not isinstance(arguments, dict) or not isinstance(embedded, dict) or any(embedded.values()):
        return None
    return arguments
