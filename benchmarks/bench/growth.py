"""What it costs to have many sessions: the same measurements on a small and a large database, in turns."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any

from benchmarks.bench import figures
from benchmarks.bench.bare import connected
from benchmarks.bench.figures import Figure
from benchmarks.bench.ground import Ground
from benchmarks.bench.loads import Loads
from benchmarks.bench.seed import seed
from benchmarks.bench.shapes import Shape
from sessionfleet import Fleet
from sessions import cursor

SMALL = 10_000
EXPIRED = 100
"""Sessions that a duty finds overdue among all of them."""

READS = 20
"""Reads of each kind in a round."""

UPDATE = Shape("update", "session.update, 4 clients x 32", "ours", "update", 4, 32)
SETTINGS = {"wal_level": "minimal", "max_wal_senders": "0"}
"""For the seeding; what a running fleet writes is logged as ever."""

_OVERDUE = """
    UPDATE sessions SET expires_at = clock_timestamp() - interval '1 second' WHERE id = ANY (%s::uuid[])
    AND status = 'active'
"""
_BYTES = """
    SELECT pg_total_relation_size('sessions')::float8, sum(pg_column_size(s.*))::float8, count(*)::float8
    FROM sessions s
"""


class Side:
    """One of the two databases, with a fleet of its own."""

    def __init__(self, ground: Ground, sessions: int, each: int, rounds: int) -> None:
        ground.servers()
        ground.fleet()
        ground.make_sessions(1)
        seed(ground.postgres.url, sessions, each)
        ground.add("relay")
        self.ground = ground
        self._sessions = sessions
        self.found: dict[str, list[float]] = {}
        self._db = connected(ground.postgres.url)
        self._db.autocommit = True
        self._read = self._db.cursor()
        self._read.execute("SELECT id::text FROM sessions ORDER BY created_at")
        ids = [row[0] for row in self._read]
        aside = EXPIRED * (rounds + 1)
        begin = len(ids) // 3
        self._neighbours = ids[begin : begin + aside]
        self._scattered = random.Random(1).sample(ids[:begin] + ids[begin + aside :], aside)
        ground.ids = sorted(set(ids).difference(self._neighbours, self._scattered))
        self._fleet = Fleet.connect(ground.redis_url)
        self._read.execute(
            "SELECT created_at, id::text FROM sessions ORDER BY created_at DESC OFFSET %s LIMIT 1", (sessions // 2,)
        )
        created_at, id_ = self._read.fetchone()  # type: ignore[misc]
        self._middle = cursor.encode(created_at, id_)
        self.loads = Loads(ground.environ, UPDATE.processes)
        self.ids_file = ground.home / "ids"
        self.ids_file.write_text("\n".join(ground.ids))

    def measure(self, seconds: float) -> None:
        """One round of everything."""
        job = {"ids": [], "ids_file": str(self.ids_file)}
        self._note("session.update", self.loads.run(UPDATE, self.ground, seconds, job)["rate"])
        self._note("expiring neighbours", self._expire(self._neighbours))
        self._note("expiring scattered", self._expire(self._scattered))
        self._note("first page", self._page())
        self._note("middle page", self._page(cursor=self._middle))
        self._note("first page of an agent", self._page(agent_id="agent-3"))
        self._note("counts of all", self._time_of("session.count", lambda answer: answer["total"] == self._sessions))

    def _expire(self, doomed: list[str]) -> float:
        """Milliseconds of the duty, with its message, answer, events and audit rows."""
        chosen = [doomed.pop() for _ in range(EXPIRED)]
        self._read.execute(_OVERDUE, (chosen,))
        started = time.perf_counter()
        answer = self._fleet.call("maintenance.cleanup_stale", 60)
        took = time.perf_counter() - started
        if answer["expired"] != EXPIRED:
            raise RuntimeError(f"the duty expired {answer['expired']} sessions instead of {EXPIRED}")
        return took * 1e3

    def _page(self, **arguments: Any) -> float:
        return self._time_of("session.list", lambda answer: len(answer["items"]) == 100, limit=100, **arguments)

    def _time_of(self, name: str, expected: Callable[[Any], bool], **arguments: Any) -> float:
        """Milliseconds of a read with its message and answer, the median of some."""
        times = []
        for _ in range(READS):
            started = time.perf_counter()
            answer = self._fleet.call(name, 60, **arguments)
            times.append(time.perf_counter() - started)
            if not expected(answer):
                raise RuntimeError(f"{name} did not answer what was expected")
        return statistics.median(times) * 1e3

    def _note(self, name: str, value: float) -> None:
        self.found.setdefault(name, []).append(value)

    def bytes_beyond(self) -> float:
        """Bytes that PostgreSQL takes for a session beside the data of its row: headers, free room, indexes."""
        self._read.execute(_BYTES)
        total, data, count = map(float, self._read.fetchone() or ())
        return (total - data) / count

    def close(self) -> None:
        self.loads.close()
        self._fleet.close()
        self._db.close()


def growth(sessions: int, events: int, seconds: float, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """``{machine, figures, growth: [{name, small, large, unit}]}``. The small side has SMALL sessions, or a tenth
    of ``sessions`` if that is less; both have ``events / sessions`` events each."""
    before = figures.load()
    few, each = min(SMALL, sessions // 10), max(1, events // sessions)
    with ExitStack() as stack:
        sides = []
        for count in (few, sessions):
            say(f"making {count:,} sessions with {count * each:,} events")
            started = time.monotonic()
            ground = stack.enter_context(Ground(("sessions", "sessions", "maintenance"), SETTINGS))
            sides.append(stack.enter_context(closing(Side(ground, count, each, rounds))))
            say(f"made in {time.monotonic() - started:.0f} s")
        small, large = sides
        for number in range(rounds + 1):
            say(f"round {number} of {rounds}" if number else "a round that does not count")
            for side in sides if number % 2 else reversed(sides):
                side.measure(seconds)
        beyond = large.bytes_beyond()
        rows: list[dict[str, Any]] = []
        for name in small.found:
            one, other = (statistics.median(side.found[name][1:]) for side in sides)
            unit = "op/s" if name == "session.update" else "ms"
            rows.append({"name": name, "small": one, "large": other, "unit": unit})
    ratios = {row["name"]: row["large"] / row["small"] for row in rows}
    found = [
        Figure(f"session.update, {sessions:,} sessions against {few:,}", ratios["session.update"], least=0.70),
        Figure(f"expiring {EXPIRED} that began together", ratios["expiring neighbours"], most=1.5),
        Figure(f"expiring {EXPIRED} drawn from all", ratios["expiring scattered"], most=1.5),
        Figure("first page", ratios["first page"], most=1.5),
        Figure("page in the middle", ratios["middle page"], most=1.5),
        Figure("first page of an agent", ratios["first page of an agent"]),
        Figure("counts of all", ratios["counts of all"]),
        Figure("PostgreSQL per session beyond its data", beyond, "bytes", most=1023),
    ]
    notes = ["| | small | large | |", "|---|---|---|---|"]
    notes += [f"| {row['name']} | {row['small']:,.1f} | {row['large']:,.1f} | {row['unit']} |" for row in rows]
    return figures.found(found, before, measurement="growth", growth=rows, notes=["\n".join(notes)])
