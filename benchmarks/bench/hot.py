"""64 writers on one session against 64 writers on 64 sessions, in turns; then what the session says."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Any

from benchmarks.bench import figures
from benchmarks.bench.bare import connected
from benchmarks.bench.figures import Figure
from benchmarks.bench.ground import Ground
from benchmarks.bench.loads import Loads, Measured
from benchmarks.bench.shapes import Shape

WRITERS = 64
MANY = Shape("many", "64 writers on 64 sessions", "ours", "update", 4, WRITERS // 4, own=True)
HOT = replace(MANY, key="hot", name="64 writers on one session")

_STATE = """
    SELECT state_version, last_seq, (SELECT count(*) FROM session_events WHERE session_id = sessions.id)
    FROM sessions WHERE id = %s
"""


def hot(seconds: float, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """``{machine, shapes, figures}``; nothing is lost when each answered update is one version and one event."""
    before = figures.load()
    measured: dict[Shape, list[Measured]] = {HOT: [], MANY: []}
    with Ground() as ground, ExitStack() as stack:
        say("starting servers and workers")
        ground.start(WRITERS + 1)
        loads = stack.enter_context(closing(Loads(ground.environ, MANY.processes)))
        database = stack.enter_context(closing(connected(ground.postgres.url)))
        database.autocommit = True
        one, others = ground.ids[:1], ground.ids[1:]
        loads.run(MANY, ground, 1.0, {"ids": others})
        first = _state(database, one[0])
        for number in range(1, rounds + 1):
            say(f"round {number} of {rounds}")
            measured[HOT].append(loads.run(HOT, ground, seconds, {"ids": one}))
            measured[MANY].append(loads.run(MANY, ground, seconds, {"ids": others}))
        grown = [now - then for now, then in zip(_state(database, one[0]), first, strict=True)]
    shapes = [
        {"key": shape.key, "name": shape.name}
        | {name: statistics.median(one[name] for one in each) for name in each[0]}
        for shape, each in measured.items()
    ]
    done = sum(each["operations"] for each in measured[HOT])
    names = ("its state_version", "its last_seq", "its event rows")
    return figures.found(
        [
            Figure("one session against 64, rate", shapes[0]["rate"] / shapes[1]["rate"], least=0.5),
            Figure("answered updates of the one session", done),
            *(
                Figure(f"difference to {name}", abs(done - count), most=0)
                for name, count in zip(names, grown, strict=True)
            ),
        ],
        before,
        measurement="hot",
        shapes=shapes,
    )


def _state(database: Any, session_id: str) -> tuple[int, ...]:
    with database.cursor() as run:
        run.execute(_STATE, (session_id,))
        found: tuple[int, ...] = run.fetchone()
    return found
