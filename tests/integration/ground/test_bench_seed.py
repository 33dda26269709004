"""The database that ``fleet bench --growth`` seeds: a fleet goes on with it, its tables are the migrated ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.bench.bare import connected
from benchmarks.bench.ground import Ground
from benchmarks.bench.growth import SETTINGS
from benchmarks.bench.seed import AGENT_SESSIONS, seed
from sessionfleet import Fleet

SESSIONS, EVENTS = 250, 4

COUNTS = "SELECT (SELECT count(*) FROM sessions), count(*), max(seq) FROM session_events"

INDEXES = """
    SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'sessions' OR tablename LIKE 'session_events%'
    UNION ALL SELECT conrelid::regclass || ' ' || conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE conrelid IN ('sessions'::regclass, 'session_events'::regclass)
    ORDER BY 1, 2
"""


@pytest.fixture
def ground() -> Iterator[Ground]:
    with Ground(("sessions",), SETTINGS) as ground:
        ground.servers()
        ground.fleet()
        ground.make_sessions(1)
        yield ground


def rows(ground: Ground, query: str) -> list[tuple[Any, ...]]:
    with connected(ground.postgres.url) as db, db.cursor() as run:
        run.execute(query)
        found = run.fetchall()
    db.close()
    return found


def test_a_seeded_fleet_goes_on_where_its_sessions_are(ground: Ground) -> None:
    before = rows(ground, INDEXES)
    seed(ground.postgres.url, SESSIONS, EVENTS)
    assert rows(ground, INDEXES) == before
    assert rows(ground, COUNTS) == [(SESSIONS, SESSIONS * EVENTS, EVENTS)]
    with Fleet.connect(ground.redis_url) as fleet:
        assert fleet.call("session.count")["by_status"]["active"] == SESSIONS
        agent = fleet.call("session.list", agent_id="agent-1", limit=1000)["items"]
        assert len(agent) == AGENT_SESSIONS
        changed = fleet.call("session.update", session_id=agent[0]["id"], context={"step": -1})
        assert (changed["last_seq"], changed["state_version"]) == (EVENTS + 1, EVENTS + 1)
    ground.add("relay")
    with Fleet.connect(ground.redis_url) as fleet:
        # The relay begins behind what was seeded: the next events are those that happen now.
        following = fleet.subscribe(after="0-0", timeout=20, marks=False)
        fleet.call("session.pause", session_id=agent[1]["id"])
        heard = [next(following), next(following)]
        following.close()
    assert [(event.session_id, event.seq) for event in heard] == [(one["id"], EVENTS + 1) for one in agent[:2]]
