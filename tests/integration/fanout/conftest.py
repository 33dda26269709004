"""A Valkey of their own for tests of fan-out: they flush, stop and freeze it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import text

from fanout.connection import PATIENT, connect
from tests.support.outbox import LocalWorker
from tests.support.running import RunningFleet
from tests.support.servers import Servers, private_valkey
from workers.embedded import EmbeddedValkey

EMPTIED = (
    "sessions",
    "session_events",
    "session_transitions",
    "session_output",
    "relay_cursors",
    "leader_leases",
    "outbox_failures",
    "event_dead_letters",
)

MakeFleet = Callable[..., RunningFleet]


class Pair(Servers):
    """The PostgreSQL of the run and a Valkey of these tests."""

    def __init__(self, base: Servers, valkey: EmbeddedValkey) -> None:
        super().__init__(base.database_url, f"{valkey.url}/0", None, valkey)
        self.migrated_database = base.migrated_database  # type: ignore[method-assign]


@pytest.fixture(scope="package")
def pair(servers: Servers) -> Iterator[Servers]:
    with private_valkey() as valkey:
        yield Pair(servers, valkey)


@pytest.fixture
def make_fleet(pair: Servers) -> Iterator[MakeFleet]:
    """Fleets on empty Redis databases and a new PostgreSQL database, without any process yet."""
    made: list[RunningFleet] = []

    def make(**env: Any) -> RunningFleet:
        with Redis.from_url(pair.redis_url) as client:
            client.flushall()
        fleet = RunningFleet(pair, **env)
        made.append(fleet)
        return fleet

    yield make
    for fleet in made:
        fleet.close()


@pytest.fixture(scope="package")
def shared_database(pair: Servers) -> Iterator[RunningFleet]:
    fleet = RunningFleet(pair)
    yield fleet
    fleet.close()


@pytest.fixture
def fanout_fleet(shared_database: RunningFleet) -> RunningFleet:
    """Empty tables, empty Redis, no process: for tests that are the relay themselves."""
    with shared_database.engine.begin() as db:
        db.execute(text(f"TRUNCATE {', '.join(EMPTIED)}"))
        db.execute(text("ALTER SEQUENCE session_events_id_seq RESTART"))
    shared_database.cache.flushall()
    return shared_database


@pytest.fixture
def worker(fanout_fleet: RunningFleet) -> Iterator[LocalWorker]:
    worker = LocalWorker(fanout_fleet)
    yield worker
    worker.close()


@pytest.fixture
def client(pair: Servers) -> Iterator[Redis]:
    """A client as the relay has it, on an empty database."""
    client = connect(pair.redis_url, name="test", timeout=PATIENT)
    client.flushall()
    yield client
    client.close()
