"""The rounds: every shape once a round, medians over the rounds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from benchmarks.bench import bare, figures, peers
from benchmarks.bench.beside import Beside
from benchmarks.bench.environment import pinned
from benchmarks.bench.figures import Figure
from benchmarks.bench.ground import Ground
from benchmarks.bench.loads import Loads, Measured
from benchmarks.bench.pgbench import CLIENTS, PgBench
from benchmarks.bench.shapes import LATENCY, RATIOS, SHAPES, Ratio

PGBENCH = "pgbench"


def bench(seconds: float, rounds: int, say: Callable[[str], None], peers_python: Path | None = None) -> Measured:
    """The whole run: ``{machine, seconds, rounds, shapes: [...], figures: [...], notes: [...]}``. With
    ``peers_python`` the peers are measured in the same rounds."""
    before = figures.load()
    measured: dict[str, list[Measured]] = {}
    with Ground() as ground, ExitStack() as stack:
        say("starting servers and workers")
        ground.start(stock=True)
        bare.prepare(ground.postgres.url)
        pgbench = PgBench(ground.postgres.url, ground.postgres.process.pid, ground.home, ground.ids)  # type: ignore[union-attr]
        loads = stack.enter_context(closing(Loads(ground.environ, max(shape.processes for shape in SHAPES))))
        for key in ("many", "stock-full"):  # connections, prepared statements, warm caches
            loads.run(next(shape for shape in SHAPES if shape.key == key), ground, 1.0)
        beside = None
        if peers_python is not None:
            beside = stack.enter_context(closing(Beside(ground, peers_python, say)))
        for number in range(1, rounds + 1):
            say(f"round {number} of {rounds}")
            for shape in SHAPES:
                measured.setdefault(shape.key, []).append(loads.run(shape, ground, seconds))
            for shape in beside.shapes if beside else ():
                measured.setdefault(shape.key, []).append(beside.run(shape, seconds))  # type: ignore[union-attr]
            if pgbench.program is not None:
                measured.setdefault(PGBENCH, []).append(pgbench.measure(seconds))
    names = {shape.key: shape.name for shape in (*SHAPES, *(beside.shapes if beside else ()))}
    names[PGBENCH] = f"pgbench, {CLIENTS} clients (p50: mean)"
    shapes = {key: {"key": key, "name": names[key], **_median(each)} for key, each in measured.items()}
    ratios = RATIOS + (peers.RATIOS if beside else ())
    notes = [f"- {peer.distribution} {pinned(peer.distribution)}: {peer.less}" for peer in peers.PEERS if beside]
    return figures.found(
        compared(shapes, ratios),
        before,
        measurement="shapes",
        seconds=seconds,
        rounds=rounds,
        shapes=list(shapes.values()),
        notes=["\n".join(notes)] if notes else [],
    )


def compared(shapes: dict[str, Measured], ratios: Sequence[Ratio]) -> list[Figure]:
    """The figures with a bar, from medians by key."""
    text, key, most = LATENCY
    found = [Figure(text, shapes[key]["p99_ms"], "ms", most=most)]
    for ratio in ratios:
        value = shapes[ratio.one][ratio.of] / shapes[ratio.other][ratio.of]
        bars: dict[str, Any] = {"most" if ratio.at_most else "least": ratio.bar}
        found.append(Figure(ratio.text, value, **bars))
    return found


def _median(rounds: Sequence[Measured]) -> Measured:
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
