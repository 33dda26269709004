"""Load processes as the measuring process sees them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.bench.figures import percentile
from benchmarks.bench.ground import Ground
from benchmarks.bench.shapes import Shape
from workers.home import ROOT

Measured = dict[str, Any]
PAUSE = 0.3
LOAD = (sys.executable, "-m", "benchmarks.bench.load")


class Loads:
    """Some processes that do jobs (:mod:`benchmarks.bench.protocol`), started once."""

    def __init__(self, environ: dict[str, str], count: int, command: Sequence[str] = LOAD) -> None:
        self._processes = [
            subprocess.Popen(command, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(count)
        ]

    def jobs(self, jobs: Sequence[dict[str, Any]], meanwhile: Callable[[], None] | None = None) -> list[Measured]:
        """One job in each of the first processes, at once; ``meanwhile`` is called while they work."""
        chosen = self._processes[: len(jobs)]
        for process, job in zip(chosen, jobs, strict=True):
            assert process.stdin is not None
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
        if meanwhile is not None:
            meanwhile()
        answers = []
        for process in chosen:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("a load process ended; its error is above")
            answers.append(json.loads(line))
        return answers

    def run(self, shape: Shape, ground: Ground, seconds: float, more: dict[str, Any] | None = None) -> Measured:
        """One shape for so many seconds: rate, latency in ms, processor time in us an operation; ``more`` goes
        into the job."""
        job = {
            "how": shape.how,
            "shape": shape.shape,
            "outstanding": shape.outstanding,
            "size": shape.size,
            "own": shape.own,
            "seconds": seconds,
            "redis_url": ground.redis_url,
            "ids": ground.ids,
            **(more or {}),
        }
        ground.rest(PAUSE)
        before = ground.cpu()
        answers = self.jobs([job | {"process": number} for number in range(shape.processes)])
        used = {name: value - before[name] for name, value in ground.cpu().items()}
        operations = sum(answer["operations"] for answer in answers)
        times = sorted(value for answer in answers for value in answer["times"])
        used["clients"] = sum(answer["cpu"] for answer in answers)
        return {
            "operations": operations,
            "rate": sum(answer["operations"] / answer["took"] for answer in answers),
            "p50_ms": percentile(times, 0.5) * 1e3,
            "p99_ms": percentile(times, 0.99) * 1e3,
            **{f"{name}_us": value / operations * 1e6 for name, value in used.items()},
        }

    def close(self) -> None:
        """Ends them."""
        for process in self._processes:
            process.kill()
            process.wait()
