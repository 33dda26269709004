"""The rounds: every shape once a round, medians over the rounds."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.bench.ground import Ground
from benchmarks.bench.pgbench import CLIENTS, PgBench
from benchmarks.bench.shapes import RATIOS, SHAPES, Shape
from workers.home import ROOT

Measured = dict[str, Any]
PAUSE = 0.3


class Load:
    """The load processes of a run, started once."""

    def __init__(self, environ: dict[str, str], count: int) -> None:
        command = [sys.executable, "-m", "benchmarks.bench.load"]
        self._processes = [
            subprocess.Popen(command, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(count)
        ]

    def run(self, count: int, job: dict[str, Any]) -> list[Measured]:
        """The job in so many processes at once."""
        chosen = self._processes[:count]
        for process in chosen:
            assert process.stdin is not None
            process.stdin.write(json.dumps(job) + "\n")
            process.stdin.flush()
        answers = []
        for process in chosen:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("a load process ended; its error is above")
            answers.append(json.loads(line))
        return answers

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


def bench(seconds: float, rounds: int, say: Callable[[str], None]) -> Measured:
    """The whole run: ``{seconds, rounds, shapes: [...], ratios: {text: value}}``."""
    ground = Ground()
    load: Load | None = None
    try:
        say("starting servers and workers")
        ground.start()
        pgbench = PgBench(ground.postgres.url, ground.postgres.process.pid, ground.home, ground.ids)  # type: ignore[union-attr]
        load = Load(ground.environ, max(shape.processes for shape in SHAPES))
        _one(ground, load, SHAPES[3], 1.0)  # connections, prepared statements, warm caches
        found: list[list[Measured]] = [[] for _ in SHAPES]
        beside: list[Measured] = []
        for number in range(1, rounds + 1):
            say(f"round {number} of {rounds}")
            for place, shape in enumerate(SHAPES):
                found[place].append(_one(ground, load, shape, seconds))
            if pgbench.program is not None:
                beside.append(pgbench.measure(seconds))
    finally:
        if load is not None:
            load.close()
        ground.close()
    shapes = [{"name": shape.name, **_median(each)} for shape, each in zip(SHAPES, found, strict=True)]
    ratios = {text: shapes[one]["rate"] / shapes[other]["rate"] for text, one, other in RATIOS}
    if beside:
        shapes.append({"name": f"pgbench, {CLIENTS} clients (p50: mean)", **_median(beside)})
    return {"seconds": seconds, "rounds": rounds, "shapes": shapes, "ratios": ratios}


def _one(ground: Ground, load: Load, shape: Shape, seconds: float) -> Measured:
    job = {
        "how": shape.how,
        "shape": shape.shape,
        "outstanding": shape.outstanding,
        "size": shape.size,
        "seconds": seconds,
        "redis_url": ground.redis_url,
        "ids": ground.ids,
    }
    ground.rest(PAUSE)
    before = ground.cpu()
    answers = load.run(shape.processes, job)
    used = {name: value - before[name] for name, value in ground.cpu().items()}
    operations = sum(answer["operations"] for answer in answers)
    times = sorted(value for answer in answers for value in answer["times"])
    used["clients"] = sum(answer["cpu"] for answer in answers)
    return {
        "rate": sum(answer["operations"] / answer["took"] for answer in answers),
        "p50_ms": _at(times, 0.5) * 1e3,
        "p99_ms": _at(times, 0.99) * 1e3,
        **{f"{name}_us": value / operations * 1e6 for name, value in used.items()},
    }


def _at(times: Sequence[float], part: float) -> float:
    return times[min(len(times) - 1, int(len(times) * part))]


def _median(rounds: Sequence[Measured]) -> Measured:
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
