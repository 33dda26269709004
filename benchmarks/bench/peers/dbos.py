"""DBOS: a workflow of one step, called in place from threads, or by way of a queue of the same process."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from dbos import DBOS

from benchmarks.bench.bare import Bare
from benchmarks.bench.peers.places import FLEET, peers_database
from benchmarks.bench.protocol import Answer, Job, Run, queue

POLL_SECONDS = 0.01
"""Its default is one second."""

QUEUE = "updates"

_own = threading.local()


@DBOS.step()
def step(session_id: str, context: dict[str, Any]) -> None:
    """One update by the bare statement."""
    if not hasattr(_own, "bare"):
        _own.bare = Bare(FLEET)
    _own.bare.one(session_id, json.dumps(context))


@DBOS.workflow()
def update(session_id: str, context: dict[str, Any]) -> dict[str, Any]:
    """A durable workflow around the step."""
    step(session_id, context)
    return {"id": session_id, "context": context}


def prepare() -> None:
    """Its tables, which the first launch makes."""
    _launch()
    DBOS.destroy()


def drive(job: Job) -> Answer:
    """Launched for this job alone: otherwise it would poll its queue while others are measured."""
    _launch()
    try:
        return _drive(job)
    finally:
        DBOS.destroy()


def _drive(job: Job) -> Answer:
    def arguments() -> tuple[str, dict[str, int]]:
        return random.choice(job["ids"]), {"step": random.randrange(1_000_000)}

    if job["shape"] == "queue":
        return queue(
            job,
            lambda: DBOS.enqueue_workflow(QUEUE, update, *arguments()),
            lambda handle: handle.get_result(polling_interval_sec=POLL_SECONDS),
        )
    return _threads(job, lambda: update(*arguments()))


def _launch() -> None:
    DBOS(config={"name": "bench", "system_database_url": peers_database("postgresql+psycopg"), "log_level": "ERROR"})
    DBOS.launch()
    DBOS.register_queue(QUEUE, polling_interval_sec=POLL_SECONDS)


def _threads(job: Job, call: Callable[[], object]) -> Answer:
    run = Run(job)

    def writer() -> None:
        while run.more():
            started = time.perf_counter()
            call()
            run.note(started)

    threads = [threading.Thread(target=writer) for _ in range(job["outstanding"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return run.answer()
