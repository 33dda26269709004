"""Sending messages to the broker within a bounded time (B-12).

Stock Celery may block for ever on a frozen Redis and answers an unreachable one after many
seconds. Here every socket has a timeout, Celery's own retries are off, and one loop of ours
repeats the same message - same task id, same idempotency key - until the time is up. An error
does not mean "not sent": a frozen server may still hold the message. That is why every write
carries a key.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Any

from celery import Celery
from celery.backends.base import DisabledBackend
from celery.loaders.app import AppLoader
from kombu import Connection
from kombu.exceptions import KombuError, LimitExceeded
from kombu.pools import ProducerPool
from redis.exceptions import RedisError

from sessionfleet.bells import RingingTransport
from sessionfleet.errors import Unavailable
from sessionfleet.request import Request

CONNECTIONS = 8
"""Broker connections of one client, at most; more threads than that take turns."""

CONNECT_SHARE = 0.2
ANSWER_SHARE = 0.3
"""Parts of submit_timeout for opening a connection and for one reply of the server. One attempt on a
server that stopped answering costs at most their sum, so a second one still fits."""

PAUSE = 0.05
MAX_PAUSE = 0.4


class _Loader(AppLoader):  # type: ignore[misc]
    def read_configuration(self, env: str = "") -> dict[str, Any]:  # noqa: ARG002
        return {}  # CELERY_CONFIG_MODULE belongs to the host application, not to us


class _App(Celery):  # type: ignore[misc]
    """A Celery app nobody else sees, without a result backend: results are read by ``replies``."""

    def _get_backend(self) -> DisabledBackend:
        return DisabledBackend(app=self)  # also when the host has CELERY_RESULT_BACKEND set


class Publisher:
    """Sends requests; safe to use from many threads. Opens its connections on first use."""

    def __init__(self, broker_url: str, submit_timeout: float) -> None:
        self.attempt_seconds = submit_timeout * (CONNECT_SHARE + ANSWER_SHARE)
        self._app = _App("sessionfleet", loader=_Loader, set_as_current=False)
        self._app.conf.update(task_publish_retry=False, task_serializer="json", broker_url=broker_url)
        connection = Connection(
            broker_url,
            transport=RingingTransport,
            connect_timeout=submit_timeout * CONNECT_SHARE,
            transport_options={
                "socket_timeout": submit_timeout * ANSWER_SHARE,
                "socket_connect_timeout": submit_timeout * CONNECT_SHARE,
                "socket_keepalive": True,
                "max_retries": 0,
                "client_name": f"sessionfleet-client-{os.getpid()}",
                "priority_steps": [0, 3, 6, 9],
            },
        )
        self._connections = connection.Pool(limit=CONNECTIONS)
        self._producers = ProducerPool(self._connections, limit=CONNECTIONS, Producer=self._app.amqp.Producer)

    def publish(self, request: Request, *, until: float, ignore_result: bool = False) -> None:
        """Put the message into its queue; raises :class:`Unavailable` at the latest at ``until``
        (``time.monotonic()``), then it may or may not have arrived."""
        pause, attempts = PAUSE, 0
        while True:
            attempts += 1
            try:
                self._send(request, until, ignore_result)
                return
            except (KombuError, RedisError, OSError) as error:
                if time.monotonic() + pause > until - self.attempt_seconds:
                    raise Unavailable(
                        service="the broker",
                        reason=_reason(error),
                        operation=request.name,
                        task_id=request.task_id,
                        idempotency_key=request.idempotency_key,
                        attempts=attempts,
                    ) from error
            time.sleep(pause)
            pause = min(pause * 2, MAX_PAUSE)

    def _send(self, request: Request, until: float, ignore_result: bool) -> None:
        spare = until - self.attempt_seconds - time.monotonic()
        with self._producers.acquire(block=spare > 0, timeout=max(spare, 0.0)) as producer:
            if time.monotonic() > until - self.attempt_seconds:
                raise TimeoutError("others were served first and the rest of the time is too short")
            self._app.send_task(
                request.name,
                kwargs=request.arguments,
                task_id=request.task_id,
                queue=request.queue,
                priority=request.priority,
                producer=producer,
                serializer="json",
                retry=False,
                ignore_result=ignore_result,
                add_to_parent=False,  # inside another app's task that would keep every result
            )

    def close(self) -> None:
        """Close all connections."""
        with suppress(KombuError, RedisError, OSError):
            self._producers.force_close_all()
            self._connections.force_close_all()
        self._app.close()


def _reason(error: BaseException) -> str:
    if isinstance(error, LimitExceeded):
        return f"all {CONNECTIONS} connections of this client were busy"
    return str(error) or type(error).__name__
