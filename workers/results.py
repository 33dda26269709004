"""Celery's result backend, made harmless: an answer that cannot be stored does not undo an operation.

Stock Celery lets the error of a lost result Redis out of the task: a solo worker takes it for a lost
broker, restores the message and runs it again without end, and nothing behind it is served.
"""

from __future__ import annotations

from typing import Any

from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery.backends.redis import RedisBackend
from celery.exceptions import BackendStoreError
from redis.exceptions import RedisError

from fanout.breaker import Breaker
from sessionfleet.errors import DeliveryLimit, TimeLimit


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
        """As the base, but never raises because Redis is away."""
        if not self._breaker.allows():
            return self.encode_result(result, state)
        try:
            stored = super().store_result(task_id, result, state, *args, **kwargs)
        except (RedisError, OSError, BackendStoreError) as error:
            self._breaker.failed(error)
            return self.encode_result(result, state)
        self._breaker.succeeded()
        return stored


def typed(error: Any, request: Any) -> Any:
    """The error a caller reads for one of Celery's: the hard time limit, a process that died each time."""
    name = getattr(request, "task", None) or "the task"
    if isinstance(error, TimeLimitExceeded):
        return TimeLimit(operation=name, seconds=error.args[0] if error.args else 0)
    if isinstance(error, WorkerLostError):
        return DeliveryLimit(operation=name, deliveries=int(getattr(request, "retries", 0) or 0) + 1)
    return error
