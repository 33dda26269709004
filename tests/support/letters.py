"""Raw messages into the queues of a fleet, what becomes of them, and the letters that are kept."""

from __future__ import annotations

import base64
import json
from typing import Any
from uuid import uuid4

from celery import Celery

from sessionfleet.errors import from_shape
from tests.support.malformed import task_message
from tests.support.running import RunningFleet
from tests.support.waiting import eventually


def push(fleet: RunningFleet, raw: bytes, queue: str = "sessions") -> None:
    fleet.broker.lpush(queue, raw)


def raw_message(task: str, queue: str = "sessions", **kwargs: Any) -> tuple[str, bytes]:
    """A task message as any producer may write it, and its task id."""
    task_id = str(uuid4())
    message = task_message(task_id, task=task, queue=queue)
    body = [[], kwargs, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    message["body"] = base64.b64encode(json.dumps(body).encode()).decode()
    message["headers"]["ignore_result"] = False
    return task_id, json.dumps(message).encode()


def outcome(fleet: RunningFleet, task_id: str, timeout: float = 60) -> Any:
    """What a caller reads for a task id: the answer, or its typed error is raised."""
    with Celery(broker=fleet.settings.broker_url, backend=fleet.settings.result_url, set_as_current=False) as app:
        result = app.AsyncResult(task_id)
        eventually(result.ready, timeout)
        meta = result.backend.get_task_meta(task_id)
        result.backend.client.close()
    if meta["status"] == "SUCCESS":
        return meta["result"]
    [shape] = meta["result"].args
    raise from_shape(shape)


def letters(fleet: RunningFleet, **wanted: Any) -> list[dict[str, Any]]:
    """What is kept, after what was put away has been taken over."""
    fleet.call("maintenance.drain_quarantine")
    return list(fleet.call("deadletter.list", **wanted)["items"])
