"""Celery's result backend, made harmless: an answer that cannot be stored does not undo an operation.

Stock Celery lets the error of a lost result Redis out of the task: a solo worker takes it for a lost
broker, restores the message and runs it again without end, and nothing behind it is served.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery.backends.redis import RedisBackend
from celery.exceptions import BackendStoreError
from redis.exceptions import RedisError

from fanout.breaker import Breaker
from fanout.script import Call, run_calls
from sessionfleet.errors import DeliveryLimit, FleetError, TimeLimit
from sessionfleet.jsontext import Encoded, encode
from sessionfleet.names import ANSWER, ANSWER_SECONDS, LARGE, REPLIES
from sessionfleet.request import READY
from tasks.runtime import Answer

log = logging.getLogger(__name__)

Stored = dict[str, Any]

MESSAGE_BYTES = 4 * 1024 * 1024
"""What a message of answers carries, about. Of answers beyond it only copies are made: Redis cuts off a subscriber
that it makes wait for more than 32 MB, and with it goes what was published for all other calls of that client."""

TRIES = 2
"""The first may find a connection that a restarted server has closed."""


class AnswerBackend(RedisBackend):  # type: ignore[misc]
    """Stores answers for callers that wait for one.

    The answer is in PostgreSQL before it comes here. When Redis does not take it, the failure is logged
    and the task goes on; storing is tried again after a second. The caller runs into its timeout, repeats
    the call with the same idempotency key and gets the stored answer (B-12, B-13).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._breaker = Breaker(name="result Redis")

    def mark_as_failure(self, task_id: str, exc: Any, *args: Any, **kwargs: Any) -> Any:
        """As the base; what Celery itself ends a task with becomes one of our errors (R-07)."""
        return super().mark_as_failure(task_id, typed(exc, kwargs.get("request")), *args, **kwargs)

    def store_result(self, task_id: str, result: Any, state: str, *args: Any, **kwargs: Any) -> Any:
        """As the base, but never raises because Redis is away. A caller that listens on a channel of its own
        is answered there."""
        channel = getattr(kwargs.get("request"), "reply_to", None) or ""
        if channel.startswith(REPLIES):
            encoded = self.encode_result(result, state)
            if state in READY:
                self._reply([(True, channel, _stored(task_id, state, encoded, _now()))])
            return encoded
        if not self._breaker.allows():
            return self.encode_result(result, state)
        try:
            stored = super().store_result(task_id, result, state, *args, **kwargs)
        except (RedisError, OSError, BackendStoreError) as error:
            self._breaker.failed(error)
            return self.encode_result(result, state)
        self._breaker.succeeded()
        return stored

    def answer(self, answers: Sequence[Answer], before: Sequence[Call] = ()) -> None:
        """Answers of many tasks in one round trip: callers with a channel of their own get one message each, others,
        in a second one, the Celery result of their task. A copy is left of what PostgreSQL does not keep, and of what
        is large. The calls ``before`` are made before, in the same; an error of theirs is only logged."""
        replies, results, done = [], [], _now()
        for one in answers:
            given = _stored(one.task_id, *_state_of(one), done)
            if one.reply_to is not None and one.reply_to.startswith(REPLIES):
                replies.append((not one.stored, one.reply_to, given))
            else:
                results.append((self.get_key_for_task(one.task_id), encode(given)))
        if replies or before:
            self._reply(replies, before)
        if results:
            self._guarded(lambda: self._store(results))

    def _reply(self, replies: Sequence[tuple[bool, str, Stored]], before: Sequence[Call] = ()) -> None:
        """Each reply: whether a copy is left anyway; channel; result. A channel gets one message, a JSON list."""
        copies, channels = [], {}  # type: list[tuple[Any, ...]], dict[str, list[Stored | Encoded]]
        room: dict[str, int] = {}
        for copied, channel, given in replies:
            copy = Encoded(given) if copied else None
            left = room.get(channel, MESSAGE_BYTES) - (len(copy.text) if copy else _size(given["result"]))
            told: Stored | Encoded = copy or given
            if left < 0:
                copy = copy or Encoded(given)
                told = {"task_id": given["task_id"], "status": LARGE}
            else:
                room[channel] = left
            if copy:
                copies.append(("SET", ANSWER + given["task_id"], copy.text, "EX", ANSWER_SECONDS))
            channels.setdefault(channel, []).append(told)
        messages = [("PUBLISH", channel, encode(told)) for channel, told in channels.items()]
        self._guarded(lambda: _made(run_calls(self.client, before, [*copies, *messages]), len(messages)))

    def _store(self, results: Sequence[tuple[Any, bytes]]) -> None:
        with self.client.pipeline(transaction=False) as pipe:
            for key, body in results:
                pipe.set(key, body, ex=self.expires)
                pipe.publish(key, body)
            pipe.execute()

    def _guarded(self, send: Callable[[], Any]) -> None:
        for attempt in range(1, TRIES + 1):
            if not self._breaker.allows():
                return
            try:
                send()
            except (RedisError, OSError) as error:
                if attempt == TRIES:
                    self._breaker.failed(error)
            else:
                self._breaker.succeeded()
                return


def _made(answers: Sequence[Any], messages: int) -> None:
    """Raises what was said to the messages, which came last; the rest is only logged."""
    for place, error in enumerate(answers, start=messages - len(answers)):
        if isinstance(error, RedisError):
            if place >= 0:
                raise error
            log.warning("Redis refused what goes with the answers: %s", error)


def _size(given: Any) -> int:
    """Bytes of what PostgreSQL keeps, about: what may be large of it has been encoded for that."""
    return len(given.text) if isinstance(given, Encoded) else 0


def _state_of(answer: Answer) -> tuple[str, Any]:
    """State and result as Celery stores them."""
    if answer.error is None:
        return "SUCCESS", answer.given
    return "FAILURE", {
        "exc_type": type(answer.error).__name__,
        "exc_message": [answer.error.shape()],
        "exc_module": FleetError.__module__,
    }


def _stored(task_id: str, state: str, result: Any, done: str) -> Stored:
    """A result in Celery's shape."""
    return {
        "status": state,
        "result": result,
        "traceback": None,
        "children": [],
        "date_done": done,
        "task_id": task_id,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat()


def typed(error: Any, request: Any) -> Any:
    """The error a caller reads for one of Celery's: the hard time limit, a process that died each time."""
    name = getattr(request, "task", None) or "the task"
    if isinstance(error, TimeLimitExceeded):
        return TimeLimit(operation=name, seconds=error.args[0] if error.args else 0)
    if isinstance(error, WorkerLostError):
        return DeliveryLimit(operation=name, deliveries=int(getattr(request, "retries", 0) or 0) + 1)
    return error
