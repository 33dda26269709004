"""How tasks send task messages: one, or many in one pipeline."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from celery import Celery
from kombu import Exchange, Queue
from kombu.exceptions import KombuError
from redis.exceptions import RedisError

from sessionfleet.messages import message_type
from sessionfleet.request import STEPS
from sessionfleet.words import Priority
from tasks.runtime import Outgoing

log = logging.getLogger(__name__)

COMMANDS_AT_ONCE = 1000
"""Redis commands of one pipeline, about four to a message."""


class Sender:
    """Sends messages of an app; nobody waits for their results."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def __call__(
        self,
        name: str,
        arguments: dict[str, Any],
        priority: Priority = "medium",
        *,
        start: datetime | None = None,
        queue: str | None = None,
    ) -> None:
        """Send a task message by wire name to its queue, or any task to a ``queue`` of another service."""
        self._send(Outgoing(name, arguments, priority, start, queue))

    def many(self, messages: Sequence[Outgoing]) -> None:
        """Send all of them in as few round trips as their number needs.

        A pipeline that broke may have sent a part. All are then sent once more, one by one, so there may be two
        copies of some. Raises what the broker raises; which of them arrived is not known then.
        """
        if len(messages) > 1:
            try:
                with self._app.producer_or_acquire() as producer, producer.batch(COMMANDS_AT_ONCE):
                    for message in messages:
                        self._send(message, producer=producer, retry=False)
                return
            except (KombuError, RedisError, OSError):
                log.info("a pipeline of messages broke, sending them one by one", exc_info=True)
        for message in messages:
            self._send(message)

    def _send(self, message: Outgoing, **options: Any) -> None:
        if message.queue is None:
            to: Any = message_type(message.name).queue
        else:
            to = Queue(message.queue, Exchange(message.queue, type="direct"), routing_key=message.queue)
        self._app.send_task(
            message.name,
            kwargs=message.arguments,
            queue=to,
            ignore_result=True,
            priority=STEPS[message.priority],
            eta=message.start,
            **options,
        )
