"""A Celery consumer that answers a message for a task it does not know.

Stock Celery rejects such a message and stores NotRegistered; a caller who sent a name that does not
exist should get the same kind of error as for any other bad call. The app says which, by
``app.unknown_task_error(name) -> Exception``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

from celery.worker.consumer import Consumer
from redis.exceptions import ConnectionError

log = logging.getLogger(__name__)


class AnsweringConsumer(Consumer):  # type: ignore[misc]
    """Stores the app's error as the result of an unknown task; the message is dropped as upstream does.

    A lost broker connection never ends the worker, also while tasks run.
    """

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """As upstream; what its clean-up and running tasks do to the lost channels fails as a lost connection.

        kombu's first close stops in the middle when Redis is away and messages are unacknowledged. Its second
        close, and each task's acknowledgement, then find no transport and raise AttributeError, which would
        end the worker. The messages come back by the visibility timeout.
        """
        for channel in getattr(getattr(self.connection, "_connection", None), "channels", None) or ():
            # kombu has no public place for it.
            channel._connparams = partial(_parameters_of, channel, channel._connparams)  # noqa: SLF001
        super().on_connection_error_after_connected(exc)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Answer and drop a message whose task name nobody registered here; the worker goes on."""
        name, task_id = message.headers.get("task"), message.headers.get("id")
        make_error = getattr(self.app, "unknown_task_error", None)
        if make_error is None or task_id is None:
            super().on_unknown_task(body, message, exc)
            return
        error = make_error(name)
        log.warning("unknown task %s", name, extra={"task_id": task_id, "task_name": name})
        request = SimpleNamespace(
            name=name,
            chord=None,
            root_id=message.headers.get("root_id"),
            correlation_id=message.properties.get("correlation_id"),
            reply_to=message.properties.get("reply_to"),
            errbacks=None,
        )
        message.reject_log_error(log, self.connection_errors)
        self.app.backend.mark_as_failure(task_id, error, request=request)
        if self.event_dispatcher:
            self.event_dispatcher.send("task-failed", uuid=task_id, exception=repr(error))


def _parameters_of(channel: Any, parameters: Callable[..., Any], **arguments: Any) -> Any:
    """The connection parameters of a channel, or the error that it has none any more."""
    if channel.connection is None or channel.connection.client is None:
        raise ConnectionError("the connection of this channel was lost")
    return parameters(**arguments)
