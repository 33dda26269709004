"""The outbox as the relay reads it: order, horizon, cursor, lease, failures (rows D-08, D-09, D-12)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, text

from sessionfleet.messages.events import EmitEvent
from sessions import leadership, outbox
from sessions.emission import emit_event
from sessions.outbox import Cursor, DeadLetter, Leader
from tasks.unit_of_work import transaction
from tests.support.outbox import LocalWorker, horizon_passes
from tests.support.running import RunningFleet

START = Cursor(0, 0, 0, 0, 1)
LEADER = Leader("me", 1)


@pytest.fixture
def db(fanout_fleet: RunningFleet) -> Iterator[Connection]:
    with fanout_fleet.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        yield connection


def read(db: Connection, cursor: Cursor = START, **limits: Any) -> list[tuple[str, int]]:
    return [(row.session_id, row.seq) for row in outbox.read_batch(db, cursor, **limits).entries]


def emit(session_id: str) -> EmitEvent:
    return EmitEvent(session_id=session_id, type="test")


def test_a_transaction_that_commits_late_is_not_skipped(
    worker: LocalWorker, db: Connection, fanout_fleet: RunningFleet
) -> None:
    slow, quick = worker.create(), worker.create()
    horizon_passes(fanout_fleet)
    [*_, last] = outbox.read_batch(db, START).entries
    cursor = START.at(int(last.xid), last.id)
    with transaction(worker.runtime) as open_work:
        open_work.apply([slow], emit_event, emit(slow))
        worker.emit(quick)
        assert outbox.read_batch(db, cursor) == ([], False, True)
        assert outbox.pending(db, cursor) == 1
        batch = outbox.read_batch(db, START)
        assert (len(batch.entries), batch.more, batch.waiting) == (2, False, True)
    horizon_passes(fanout_fleet)
    assert read(db, cursor) == [(slow, 2), (quick, 2)]
    assert outbox.read_batch(db, cursor)[1:] == (False, False)
    assert outbox.pending(db, cursor) == 2


def test_an_open_reader_holds_nothing_back(worker: LocalWorker, db: Connection, fanout_fleet: RunningFleet) -> None:
    with fanout_fleet.engine.connect() as reader:
        reader.execute(text("SELECT count(*) FROM session_events"))
        session_id = worker.create()
        horizon_passes(fanout_fleet)
        assert read(db) == [(session_id, 1)]


def test_events_of_a_session_are_read_in_seq_order_whoever_began_first(
    worker: LocalWorker, db: Connection, fanout_fleet: RunningFleet
) -> None:
    """The transaction with the lower number writes the later event of ``shared``."""
    other, shared = worker.create(), worker.create()
    with transaction(worker.runtime) as older:
        older.apply([other], emit_event, emit(other))
        with transaction(worker.runtime) as younger:
            younger.apply([shared], emit_event, emit(shared))
        older.apply([shared], emit_event, emit(shared))
    horizon_passes(fanout_fleet)
    assert [seq for session_id, seq in read(db) if session_id == shared] == [1, 2, 3]


def test_a_batch_is_bounded_by_count_and_by_bytes(
    worker: LocalWorker, db: Connection, fanout_fleet: RunningFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = worker.create()
    for _ in range(4):
        worker.emit(session_id, text="".join(map(chr, range(0x4E00, 0x4E00 + 2000))))
    horizon_passes(fanout_fleet)
    assert len(read(db, limit=3)) == 3
    assert outbox.read_batch(db, START, limit=5).more  # perhaps: it has seen no end
    monkeypatch.setattr(outbox, "BATCH_BYTES", 13_000)
    assert [seq for _, seq in read(db)] == [1, 2, 3]
    assert outbox.read_batch(db, START)[1:] == (True, False)
    [first] = outbox.read_batch(db, START, limit=1).entries
    monkeypatch.setattr(outbox, "BATCH_BYTES", 1)
    assert read(db, START.at(int(first.xid), first.id)) == [(session_id, 2)]


def test_the_read_walks_one_index_per_month(fanout_fleet: RunningFleet, db: Connection) -> None:
    db.execute(
        text("""
            INSERT INTO session_events
                (session_id, seq, created_at, event_id, event_name, event_type, payload, metadata, entity_ids)
            SELECT md5((n % 100)::text)::uuid, n, now() + n % 2 * interval '1 month', gen_random_uuid(), 'a', 'a',
                '{}', '{}', '{}'
            FROM generate_series(1, 20000) AS n
        """)
    )
    db.execute(text("ANALYZE session_events"))
    db.exec_driver_sql("SET plan_cache_mode = force_generic_plan")  # as the relay's own connection
    db.exec_driver_sql(f"PREPARE reading (xid8, bigint, bigint, bigint) AS {outbox._READ.format(limit=500)}")
    plan = "\n".join(row[0] for row in db.exec_driver_sql("EXPLAIN EXECUTE reading ('0', 15000, 0, 1000000)"))
    assert "Merge Append" in plan, plan
    assert "Seq Scan on session_events" not in plan, plan
    assert plan.count("ROW(xid, id) > ROW($1, $2)") >= 2, plan


def test_a_plan_made_for_empty_months_walks_the_index_too(fanout_fleet: RunningFleet, db: Connection) -> None:
    outbox.read_batch(db, START)
    [name] = [name for sql, name in db.info["prepared"].items() if "next_ready" in sql]
    settings = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off"
    plan = "\n".join(row[0] for row in db.exec_driver_sql(f"{settings}; EXPLAIN EXECUTE {name} ('0', 0, 0, 1)"))
    assert "Merge Append" in plan, plan
    assert "Seq Scan" not in plan, plan


def test_the_cursor_is_saved_by_the_leader_only(db: Connection) -> None:
    assert outbox.load_cursor(db) == START
    assert not outbox.save_cursor(db, START.at(7, 5), LEADER)
    assert leadership.take(db, outbox.NAME, "me", 60) == 1
    assert outbox.save_cursor(db, START.at(2**63 + 7, 5), LEADER)
    assert outbox.load_cursor(db) == Cursor(2**63 + 7, 5, 5, 0, 1)
    assert outbox.load_cursor(db).at(2**63 + 8, 3).high_id == 5
    assert not outbox.save_cursor(db, START, Leader("me", 2))
    assert not outbox.save_cursor(db, START, Leader("you", 1))


def test_one_holds_the_lease(db: Connection) -> None:
    assert leadership.holder(db, "duty") is None
    assert leadership.take(db, "duty", "one", 60) == 1
    assert leadership.take(db, "duty", "two", 60) is None
    assert leadership.take(db, "duty", "one", 60) is None
    assert leadership.holder(db, "duty") == "one"
    assert leadership.renew(db, "duty", "one", 1, 60)
    assert not leadership.renew(db, "duty", "two", 1, 60)
    leadership.release(db, "duty", "two", 1)
    assert leadership.holder(db, "duty") == "one"
    leadership.release(db, "duty", "one", 1)
    assert leadership.take(db, "duty", "two", 0) == 2
    assert leadership.renew(db, "duty", "two", 2, 0)  # run out, but nobody took it
    assert leadership.take(db, "duty", "one", 60) == 3
    assert not leadership.renew(db, "duty", "two", 2, 60)


def test_failures_are_counted_by_kind(worker: LocalWorker, db: Connection, fanout_fleet: RunningFleet) -> None:
    worker.create()
    horizon_passes(fanout_fleet)
    [row] = outbox.read_batch(db, START).entries
    assert (row.retry_count, row.refusals) == (0, 0)
    assert outbox.record_failures(db, [row.event_id], "away", "outage") == {row.event_id: 0}
    assert outbox.record_failures(db, [row.event_id], "no", "refusal") == {row.event_id: 1}
    waits = []
    for _ in range(8):
        outbox.record_failures(db, [row.event_id], "away", "outage")
        wait = text("SELECT extract(epoch FROM next_try_at - clock_timestamp()) FROM outbox_failures")
        waits.append(round(float(db.execute(wait).scalar_one())))
    assert waits == [4, 8, 16, 32, 60, 60, 60, 60]
    [row] = outbox.read_batch(db, START).entries
    assert (row.retry_count, row.refusals) == (10, 1)
    outbox.clear_failures(db, [row.event_id])
    assert outbox.read_batch(db, START).entries[0].retry_count == 0


def test_a_dead_letter_and_the_cursor_go_together(
    worker: LocalWorker, db: Connection, fanout_fleet: RunningFleet
) -> None:
    worker.create()
    horizon_passes(fanout_fleet)
    [row] = outbox.read_batch(db, START).entries
    outbox.record_failures(db, [row.event_id], "no", "refusal")
    letter = DeadLetter(row.event_id, "session:x", "no", 3, '{"event_id": "x"}')
    after = START.at(int(row.xid), row.id)
    outbox.load_cursor(db)
    assert not outbox.bury(db, after, LEADER, letter)
    assert db.execute(text("SELECT count(*) FROM event_dead_letters")).scalar() == 0
    assert outbox.read_batch(db, START).entries[0].retry_count == 1
    leadership.take(db, outbox.NAME, "me", 60)
    assert outbox.bury(db, after, LEADER, letter)
    assert outbox.load_cursor(db) == after
    kept = db.execute(text("SELECT * FROM event_dead_letters")).one()
    assert (str(kept.event_id), kept.original_subject, kept.failure_reason) == (row.event_id, "session:x", "no")
    assert (kept.deliveries, kept.envelope) == (3, {"event_id": "x"})
    assert outbox.read_batch(db, START).entries[0].retry_count == 0


def test_dead_letters_are_bounded(db: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    db.execute(
        text("""
            INSERT INTO event_dead_letters (original_subject, failure_reason, deliveries, envelope, dlq_timestamp)
            SELECT 'session:x', 'no', 3, '{}', now() - n * interval '1 day' FROM generate_series(40, 1, -1) AS n
        """)
    )
    assert outbox.prune_dead_letters(db) == 11
    monkeypatch.setattr(outbox, "DEAD_LETTERS", 10)
    assert outbox.prune_dead_letters(db) == 19
    assert outbox.prune_dead_letters(db) == 0
    assert db.execute(text("SELECT count(*) FROM event_dead_letters")).scalar() == 10


def test_the_position_of_an_age(worker: LocalWorker, db: Connection, fanout_fleet: RunningFleet) -> None:
    worker.create()
    horizon_passes(fanout_fleet)
    [row] = outbox.read_batch(db, START).entries
    cursor = START.at(int(row.xid), row.id)
    assert outbox.position_before(db, cursor, age=3600) is None
    assert outbox.position_before(db, cursor, age=0) == (int(row.xid), row.id)
    assert outbox.position_before(db, START, age=0) is None
