"""The Celery app of workers under test that have nothing to do with sessions; see :mod:`tests.support.brokers`.

What a task did is counted in Redis: hash ``started`` and ``done`` (id -> how often), list ``order``.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from contextlib import suppress
from typing import Any

import redis
from celery import Celery, signals

from broker.containment import contained

SETUP = json.loads(os.environ["BROKER_TEST"])
"""``broker``, ``notes`` (URLs), ``channel`` (safe or stock), ``conf`` (Celery settings)."""

if SETUP["channel"] == "safe":
    from broker.transport import install

    assert install()

app = Celery("broker-test", broker=SETUP["broker"])
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_channel_error_retry=True,
)
if SETUP["channel"] == "safe":
    app.conf.worker_consumer = "broker.guard:GuardedConsumer"
    app.Task.Request = "broker.request:GuardedRequest"
app.conf.update(SETUP["conf"])
notes = redis.Redis.from_url(SETUP["notes"])


@signals.task_prerun.connect
@signals.task_internal_error.connect
def count_run(**_: Any) -> None:
    """Every task that was started, whatever became of it."""
    notes.incr("runs")


@signals.worker_ready.connect
def kill_a_child(sender: Any, **_: Any) -> None:
    """With ``kill_a_child`` among the settings: one is gone before the worker's loop begins."""
    if app.conf.get("kill_a_child"):
        pid = sender.pool._pool._pool[0].pid
        os.kill(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


@app.task(name="note")
def note(id: Any) -> None:  # noqa: A002
    """Counts itself."""
    with notes.pipeline() as pipe:
        pipe.hincrby("done", str(id), 1).rpush("order", str(id)).execute()


@app.task(name="tell", bind=True, ignore_result=False)
def tell(self: Any, **arguments: Any) -> dict[str, Any]:
    """Keeps and answers what a task sees of its message."""
    request = self.request
    names = ("id", "root_id", "retries", "eta", "expires", "timelimit", "ignore_result", "reply_to", "correlation_id")
    seen = {name: getattr(request, name) for name in names}
    info = request.delivery_info
    told = {"arguments": arguments, "args": request.args, **seen, "priority": info["priority"]}
    notes.hset("told", request.id, json.dumps({**told, "origin": request.origin}))
    return told


@app.task(name="nap")
def nap(id: Any, seconds: float) -> None:  # noqa: A002
    """Counts its start, takes its time, counts its end."""
    notes.hincrby("started", str(id), 1)
    time.sleep(seconds)
    note(id)


@app.task(name="end", default_retry_delay=1)
def end(how: str) -> None:
    """Ends its process, or tries to."""
    notes.hincrby("started", how, 1)
    WAYS[how]()


@app.task(name="contained_end")
def contained_end(how: str) -> None:
    """The same where the task's errors are kept in the task."""
    notes.hincrby("started", how, 1)
    with contained(RuntimeError):
        WAYS[how]()


def use_memory() -> None:
    raise MemoryError("on purpose")


def dive() -> None:
    dive()


def loop_until_told() -> None:
    """Heeds the soft limit, without ever waiting."""
    while True:
        pass


def loop_past_errors() -> None:
    """Takes the soft limit for an error of its own."""
    while True:
        with suppress(Exception):
            while True:
                time.sleep(0.01)


def loop_past_everything() -> None:
    """Cannot be stopped from inside."""
    while True:
        with suppress(BaseException):
            while True:
                time.sleep(0.01)


WAYS = {
    "memory": use_memory,
    "exit": lambda: sys.exit(3),
    "os._exit": lambda: os._exit(4),
    "recursion": dive,
    "segfault": lambda: ctypes.string_at(0),
    "loop": loop_until_told,
    "stubborn loop": loop_past_errors,
    "endless loop": loop_past_everything,
}
"""Ways to end."""
