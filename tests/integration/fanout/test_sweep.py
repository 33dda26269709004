"""maintenance.drain_outbox: the sweep behind the relay (row D-08)."""

from __future__ import annotations

from sqlalchemy import text

from sessions import leadership, outbox
from tests.support.outbox import LocalWorker, everything_arrives, horizon_passes
from tests.support.running import RunningFleet
from tests.support.servers import Servers

NAME = "maintenance.drain_outbox"


def test_it_publishes_when_nobody_leads(worker: LocalWorker, fanout_fleet: RunningFleet) -> None:
    assert worker.call(NAME) == {"published": 0, "pending": 0}
    worker.create()
    with fanout_fleet.engine.begin() as db:
        copy = """
            INSERT INTO session_events
                (session_id, seq, created_at, event_id, event_name, event_type, payload, metadata, entity_ids)
            SELECT session_id, n, created_at, gen_random_uuid(), 'bulk', 'bulk', '{}', '{}', '{}'
            FROM session_events, generate_series(2, 1200) AS n
        """
        db.execute(text(copy))
    horizon_passes(fanout_fleet)
    assert worker.call(NAME) == {"published": 1200, "pending": 0}
    assert [each["seq"] for each in everything_arrives(fanout_fleet)] == list(range(1, 1201))
    with fanout_fleet.engine.connect() as db:
        assert leadership.holder(db, outbox.NAME) is None


def test_it_keeps_away_from_a_leader(worker: LocalWorker, fanout_fleet: RunningFleet) -> None:
    with fanout_fleet.engine.begin() as db:
        leadership.take(db, outbox.NAME, "a relay", 60)
    worker.create()
    assert worker.call(NAME) == {"published": 0, "pending": 1}
    with fanout_fleet.engine.connect() as db:
        assert leadership.holder(db, outbox.NAME) == "a relay"


def test_events_wait_while_redis_is_away(worker: LocalWorker, fanout_fleet: RunningFleet, pair: Servers) -> None:
    assert pair.valkey is not None
    pair.valkey.stop()
    try:
        worker.create()
        assert worker.call(NAME) == {"published": 0, "pending": 1}
    finally:
        pair.valkey.start()
    horizon_passes(fanout_fleet)
    assert worker.call(NAME) == {"published": 1, "pending": 0}
    everything_arrives(fanout_fleet)
