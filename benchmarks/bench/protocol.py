"""How a load process works: a line of JSON in, calls for some seconds, a line of JSON out.

Started once for a whole run, so that imports and connections are made once. Knows neither the fleet nor a peer.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

Job = dict[str, Any]
Answer = dict[str, Any]

Call = Callable[[], Awaitable[int]]
"""One message; gives the number of operations in it."""


def serve(drive: Callable[[Job], Answer]) -> None:
    """Does the jobs of stdin until it ends."""
    for line in sys.stdin:
        print(json.dumps(drive(json.loads(line))), flush=True)


class Run:
    """The measured part of a job: from its making to :meth:`answer`, without what comes before and after."""

    def __init__(self, job: Job) -> None:
        self.times: list[float] = []
        self.operations = 0
        self._cpu, self._begun = time.process_time(), time.perf_counter()
        self._stop = Path(job["stop"]) if "stop" in job else None
        self._until = self._begun + job.get("seconds", 0.0)

    def more(self) -> bool:
        """Whether to go on: until ``seconds`` are over or, where the job names it, the file ``stop`` is there."""
        return not self._stop.exists() if self._stop else time.perf_counter() < self._until

    def note(self, started: float, operations: int = 1) -> None:
        """A message that was begun at ``started`` (perf_counter) has its answer."""
        self.times.append(time.perf_counter() - started)
        self.operations += operations

    def answer(self) -> Answer:
        """Seconds of each message, operations in them, wall and processor time of it all."""
        took = time.perf_counter() - self._begun
        cpu = time.process_time() - self._cpu
        return {"times": self.times, "operations": self.operations, "took": took, "cpu": cpu}


async def window(job: Job, calls: Callable[[int], Call]) -> Answer:
    """``outstanding`` writers, each calling again when its call is done. ``calls`` makes the call of a writer
    by its number."""
    run = Run(job)

    async def writer(call: Call) -> None:
        while run.more():
            started = time.perf_counter()
            operations = await call()
            run.note(started, operations)

    await asyncio.gather(*(writer(calls(number)) for number in range(job["outstanding"])))
    return run.answer()


def queue(job: Job, send: Callable[[], Any], receive: Callable[[Any], object]) -> Answer:
    """``outstanding`` messages of a blocking client, answers taken in the order of sending."""
    waiting: deque[tuple[float, Any]] = deque()
    run = Run(job)
    while run.more() or waiting:
        while len(waiting) < job["outstanding"] and run.more():
            waiting.append((time.perf_counter(), send()))
        if waiting:
            started, sent = waiting.popleft()
            receive(sent)
            run.note(started)
    return run.answer()
