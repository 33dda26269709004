"""Where Flower's HTTP API is not enough for services: waiting for an answer, and what cannot be sent (R-08)."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

from celery.result import AsyncResult
from celery.states import READY_STATES
from flower.api.tasks import TaskResult, TaskSend
from kombu.exceptions import SerializationError, SerializerNotInstalled
from tornado.web import HTTPError, authenticated

from sessionfleet.errors import FleetError
from workers.results import AnswerBackend

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.2
"""Seconds between two looks for an answer; the pause doubles."""

REFUSALS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    SerializationError,
    SerializerNotInstalled,
    TypeError,
    ValueError,
)
"""What comes of options that Celery and kombu cannot use."""


class Answer(TaskResult):  # type: ignore[misc]
    """``GET /api/task/result/{id}?timeout=``: looks again until the answer is there.

    Flower's own waits in one of the five threads that serve the whole API: five callers that wait keep everybody
    from sending, for as long as they wait, also when they have gone; and it says the state of before the wait.
    """

    _gone = False

    def on_connection_close(self) -> None:
        """Nobody waits any more."""
        self._gone = True

    @authenticated
    async def get(self, task_id: str) -> None:
        """The answer, or the state after ``timeout`` seconds; 400 for a time that is no number or infinite."""
        timeout = self.get_argument("timeout", None, type=float) or 0.0
        if not math.isfinite(timeout):
            raise HTTPError(400, "timeout must be a number of seconds")
        until = time.monotonic() + timeout
        pause = FIRST_PAUSE
        while True:
            result = AsyncResult(task_id)
            response = await self.run_blocking(
                "task.result",
                task_id,
                self.read_result,
                result,
                None,
                connection_errors=self.backend_connection_errors(result),
            )
            left = until - time.monotonic()
            if "result" in response or left <= 0 or self._gone:
                break
            await asyncio.sleep(min(pause, left))
            pause = min(2 * pause, LONGEST_PAUSE)
        if not self._gone:
            self.write(response)

    def read_result(self, result: AsyncResult, _timeout: float | None) -> dict[str, Any]:
        """``{task-id, state}`` and, when finished, ``result``: of a typed error its shape (R-07) as JSON
        text, of any other failure its text and ``traceback``."""
        response = {"task-id": result.id, "state": result.state}
        if response["state"] in READY_STATES:
            self.update_response_result(response, result)
            if isinstance(result.result, FleetError):
                response.pop("traceback", None)  # the shape says it all
        return response


class Send(TaskSend):  # type: ignore[misc]
    """``POST /api/task/send-task/{name}``: what cannot be sent as it was asked for is 400 with the reason, where
    Flower's own says 500 and nothing."""

    def get_task_args(self) -> tuple[list[Any], dict[str, Any], dict[str, Any]]:
        """Positional arguments, arguments and options of the message."""
        try:
            args, kwargs, options = super().get_task_args()
        except RecursionError:
            raise HTTPError(400, "the body is nested too deeply") from None
        if not isinstance(kwargs, dict):
            raise HTTPError(400, "kwargs must be an object")
        if not isinstance(options.get("task_id", ""), str):
            raise HTTPError(400, "task_id must be text")
        return args, kwargs, options

    async def run_blocking(
        self, operation: str, target: str, func: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """As the base, with refusals as 400."""
        if operation != "task.publish":
            return await super().run_blocking(operation, target, func, *args, **kwargs)
        done = await super().run_blocking(operation, target, _tried, func, *args, **kwargs)
        if isinstance(done, Exception):
            raise HTTPError(400, f"cannot be sent: {done.args[0] if done.args else done!r}")
        return done


def _tried(send: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What ``send`` gives, or what Celery or kombu say of an option they cannot use. Raises the rest."""
    try:
        return send(*args, **kwargs)
    except REFUSALS as error:
        return error


class LookedUp(AnswerBackend):
    """Results of tasks that are sent over HTTP: whoever wants one looks for it."""

    def on_task_call(self, producer: Any, task_id: str) -> None:
        """No subscription, which nothing here would read."""


HANDLERS = [(r"/api/task/result/(.+)", Answer), (r"/api/task/send-task/(.+)", Send)]
"""Routes that take the place of Flower's own."""
