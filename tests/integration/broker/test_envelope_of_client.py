"""The message our client writes without Celery, taken by unmodified workers with kombu's own channel, and by
workers on the safe channel (rows P-11, R-11)."""

from __future__ import annotations

import json
import os
import time
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery

from sessionfleet.envelope import Letter, message_of
from sessionfleet.publisher import Publisher
from sessionfleet.request import Request
from tests.support import eventually
from tests.support.brokers import BrokerBench, Kind

CHANNEL = "_fleet.reply.of-a-client"
ARGUMENTS: dict[str, Any] = {"text": "ü 日本 🙂 \x00", "large": 2**70, "deep": {"a": [None, True, 1.5, {"b": []}]}}


def send(bench: BrokerBench, *requests: Request, ignore_result: bool = False) -> None:
    publisher = Publisher(bench.url, 5)
    reply_to = None if ignore_result else CHANNEL
    letters = [Letter(one, message_of(one, reply_to)) for one in requests]
    publisher.publish(letters, time.monotonic() + 5)
    publisher.close()


@pytest.mark.parametrize("kind", ["stock", "safe"])
def test_arguments_priority_and_reply_arrive(bench: BrokerBench, kind: Kind) -> None:
    """R-11: the task sees what was sent, Celery stores its result where a Celery caller reads it."""
    conf = {"result_backend": bench.notes_url, "task_ignore_result": False}
    bench.worker(kind=kind, **conf)
    one = Request(str(uuid4()), "tell", "celery", ARGUMENTS, 3)
    send(bench, one)
    with Celery(broker=bench.url, backend=bench.notes_url, set_as_current=False) as app:
        told = app.AsyncResult(one.task_id).get(timeout=20)
    assert told == {
        "arguments": ARGUMENTS,
        "args": [],
        "id": one.task_id,
        "root_id": one.task_id,
        "correlation_id": one.task_id,
        "retries": 0,
        "eta": None,
        "expires": None,
        "timelimit": [None, None],
        "ignore_result": False,
        "reply_to": CHANNEL,
        "priority": 3,
    }
    kept = json.loads(bench.notes.hget("told", one.task_id) or "{}")
    assert kept["origin"].startswith(f"sessionfleet{os.getpid()}@")
    eventually(bench.settled)


def test_nobody_waits(bench: BrokerBench) -> None:
    """No reply, and an unmodified worker stores no result for it, though the task has one."""
    bench.worker(kind="stock", result_backend=bench.notes_url, task_ignore_result=False)
    one = Request(str(uuid4()), "tell", "celery", {}, 6)
    send(bench, one, ignore_result=True)
    eventually(lambda: bench.notes.hexists("told", one.task_id), 20)
    eventually(bench.settled)
    told = json.loads(bench.notes.hget("told", one.task_id) or "{}")
    assert (told["ignore_result"], told["reply_to"]) == (True, None)
    assert not bench.notes.exists(f"celery-task-meta-{one.task_id}")


def test_highest_priority_first_and_in_order(bench: BrokerBench) -> None:
    """E-14: one call with messages of all priorities, taken by an unmodified worker in their order."""
    sent = [
        Request(f"{step}-{n}", "note", "celery", {"id": f"{step}-{n}"}, step)
        for n in range(3)
        for step in (9, 0, 6, 3)
    ]
    send(bench, *sent, ignore_result=True)
    bench.worker(kind="stock")
    eventually(lambda: len(bench.done()) == 12, 20)
    wanted = [f"{step}-{n}" for step in (0, 3, 6, 9) for n in range(3)]
    assert bench.notes.lrange("order", 0, -1) == wanted
