"""The tick ledger on a real database: claims, races and fences, without any process (H-06, invariant 7)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from uuid import uuid4

import pytest
from sqlalchemy import Connection, Engine, create_engine, text

from reviews import commands, dispatch, ledger, zones
from reviews.store import admission, executions, runs, schedules, upkeep
from sessionfleet.messages import CreateSchedule, TriggerSchedule
from sessions.queries import clock
from tests.support.servers import Servers
from workers.migrate import migrate
from workers.settings import Settings

GRACE = timedelta(seconds=300)


@pytest.fixture(scope="module")
def engine(servers: Servers) -> Iterator[Engine]:
    """A migrated database of its own."""
    url = servers.migrated_database()
    migrate(Settings.load({}, database_url=url, redis_url=servers.redis_url))
    engine = create_engine(url, pool_size=10)
    yield engine
    engine.dispose()


@pytest.fixture
def db(engine: Engine) -> Iterator[Connection]:
    """An empty ledger; each test commits what it wants."""
    with engine.connect() as connection:
        connection.execute(text("TRUNCATE scheduled_reviews, schedule_executions, schedule_attempts"))
        connection.commit()
        yield connection


def create(db: Connection, seconds: int = 60, due_ago: float | None = None) -> str:
    """An interval schedule; its next slot was due ``due_ago`` seconds ago."""
    command = CreateSchedule(schedule_type="interval", owner_id="o", interval_seconds=seconds)
    schedule_id = str(commands.create(db, command, clock(db))["schedule_id"])
    if due_ago is not None:
        schedules.move(db, [schedules.Move(schedule_id, clock(db) - timedelta(seconds=due_ago))])
    return schedule_id


def triggered(db: Connection) -> str:
    """A queued run."""
    command = TriggerSchedule(schedule_id=create(db))
    return str(commands.trigger(db, command, clock(db))["execution_id"])


def claim(db: Connection, execution_id: str, parallelism: int = 1) -> runs.Run | None:
    """What the message of that run starts."""
    seen = admission.look(db, execution_id)
    return None if seen is None else runs.claim(db, seen.owner_id, execution_id, parallelism)


def test_any_number_of_dispatchers_settle_each_slot_once(engine: Engine, db: Connection) -> None:
    ids = [create(db, seconds=60, due_ago=541) for _ in range(300)]
    db.commit()
    together = Barrier(4)

    def dispatcher() -> Counter[str]:
        done: Counter[str] = Counter()
        together.wait()
        with engine.connect() as mine:
            while True:
                settled = dispatch.settle_due(mine, clock(mine), GRACE)
                mine.commit()
                if not settled.schedules:
                    return done
                done.update(queued=settled.queued, skipped=settled.skipped)

    with ThreadPoolExecutor(4) as pool:
        done = sum((future.result() for future in [pool.submit(dispatcher) for _ in range(4)]), Counter[str]())
    rows = db.execute(text("SELECT schedule_id, nominal_utc, reason FROM schedule_executions")).all()
    assert len({(row.schedule_id, row.nominal_utc) for row in rows}) == len(rows) == 300 * 10
    assert Counter(row.schedule_id for row in rows if row.reason is None) == Counter(ids)
    assert done == {"queued": 300, "skipped": 300 * 9}


def test_what_one_dispatcher_holds_another_passes_over(engine: Engine, db: Connection) -> None:
    create(db, due_ago=1)
    db.commit()
    with engine.connect() as other:
        assert len(schedules.claim_due(other, 10)) == 1
        assert dispatch.settle_due(db, clock(db), GRACE).schedules == 0
        other.rollback()
    assert dispatch.settle_due(db, clock(db), GRACE).queued == 1


def test_a_dispatcher_that_dies_before_its_commit_leaves_the_slot_due(engine: Engine, db: Connection) -> None:
    create(db, due_ago=1)
    db.commit()
    with engine.connect() as dying:
        assert dispatch.settle_due(dying, clock(dying), GRACE).queued == 1
    assert dispatch.settle_due(db, clock(db), GRACE).queued == 1
    assert db.execute(text("SELECT count(*) FROM schedule_executions")).scalar_one() == 1


def test_what_a_tick_queues_of_an_owner_counts_for_its_other_schedules(
    db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """H-08: of two that wait already and five that are due together one still finds room."""
    monkeypatch.setattr(ledger, "MAX_WAITING", 3)
    for _ in range(2):
        triggered(db)
    for _ in range(5):
        create(db, due_ago=1)
    settled = dispatch.settle_due(db, clock(db), GRACE)
    assert (settled.queued, settled.skipped) == (1, 4)
    reasons = db.execute(text("SELECT reason FROM schedule_executions WHERE status = 'skipped'")).scalars()
    assert set(reasons) == {"no_capacity"}


def test_slots_that_are_on_the_ledger_are_not_run_again(db: Connection) -> None:
    schedule_id = create(db, due_ago=170)
    assert dispatch.settle_due(db, clock(db), GRACE).queued == 1
    db.execute(text("UPDATE schedule_executions SET status = 'success', publish_at = NULL WHERE status = 'queued'"))
    db.execute(text("UPDATE scheduled_reviews SET next_run = next_run - interval '3 minutes'"))
    again = dispatch.settle_due(db, clock(db), GRACE)
    assert (again.queued, again.skipped) == (0, 0)
    assert schedules.lock(db, schedule_id)["next_run"] > clock(db)


def test_a_queued_run_is_sent_now_then_again_at_growing_distances(db: Connection) -> None:
    create(db, due_ago=1)
    dispatch.settle_due(db, clock(db), GRACE)
    waits = []
    for _ in range(3):
        assert len(executions.to_publish(db, 10)) == 1
        assert executions.to_publish(db, 10) == []
        left = "SELECT extract(epoch FROM publish_at - clock_timestamp()) FROM schedule_executions"
        waits.append(round(float(db.execute(text(left)).scalar_one())))
        db.execute(text("UPDATE schedule_executions SET publish_at = clock_timestamp()"))
    assert waits == [10, 20, 40]


def test_one_of_many_copies_of_a_message_claims_the_run(engine: Engine, db: Connection) -> None:
    execution_id = triggered(db)
    db.commit()
    together = Barrier(8)

    def worker() -> bool:
        together.wait()
        with engine.begin() as mine:
            return claim(mine, execution_id) is not None

    with ThreadPoolExecutor(8) as pool:
        claims = [future.result() for future in [pool.submit(worker) for _ in range(8)]]
    assert sorted(claims) == [False] * 7 + [True]


def test_a_run_is_not_claimed_before_its_time(db: Connection) -> None:
    execution_id = triggered(db)
    db.execute(text("UPDATE schedule_executions SET not_before = clock_timestamp() + interval '1 minute'"))
    assert claim(db, execution_id) is None


def test_a_slow_worker_whose_attempt_was_ended_writes_nothing(db: Connection) -> None:
    execution_id = triggered(db)
    slow = claim(db, execution_id)
    assert slow is not None
    assert runs.lost(db, 10) == []
    db.execute(text("UPDATE schedule_executions SET lease_expires_at = clock_timestamp()"))
    assert runs.lost(db, 10) == [execution_id]
    lost = runs.held(db, execution_id)
    assert lost is not None
    assert runs.is_lost(db, lost)
    assert (lost.attempt, lost.started_at) == (1, slow.started_at)
    runs.fail(db, lost, "gone", timedelta(0))
    for write in (
        lambda: runs.opened(db, slow, uuid4()),
        lambda: runs.succeed(db, slow, {}, 0),
        lambda: runs.fail(db, slow, "late", None),
    ):
        with pytest.raises(runs.AttemptOver):
            write()
    second = claim(db, execution_id)
    assert second is not None
    with pytest.raises(runs.AttemptOver):
        runs.succeed(db, slow, {}, 0)
    runs.succeed(db, second, {"until": "x"}, 3)
    row = db.execute(text("SELECT status, attempt, accounts_processed FROM schedule_executions")).one()
    assert row == ("success", 2, 3)


def test_retries_end_with_max_retries_and_with_the_schedule(db: Connection) -> None:
    execution_id = triggered(db)
    tried = []
    for _ in range(4):
        claimed = claim(db, execution_id)
        assert claimed is not None
        tried.append((claimed.attempt, claimed.may_retry))
        runs.fail(db, claimed, "no", timedelta(0))
    assert tried == [(1, True), (2, True), (3, True), (4, False)]
    db.execute(text("UPDATE scheduled_reviews SET deleted_at = now(), next_run = NULL, max_retries = 20"))
    last = claim(db, execution_id)
    assert last is not None
    assert not last.may_retry


def test_a_tick_looks_at_what_is_due_and_at_nothing_else(db: Connection) -> None:
    db.execute(
        text("""
        INSERT INTO scheduled_reviews (schedule_id, schedule_type, owner_id, interval_minutes, hour, minute, timezone,
            priority, enabled, max_retries, retry_delay_minutes, metadata, next_run, run_count, version, created_at,
            updated_at, last_business_day, month_end, dst_gap, dst_overlap, jitter_seconds, windows, window_policy,
            blackouts, tzdata_version, coalesce, overlap, max_instances, pause_after_failures, failures_in_row)
        SELECT 's' || n, 'interval', 'o', 60, 0, 0, 'UTC', 'medium', true, 3, 5, '{}',
               now() + n * interval '1 second', 0, 1, now(), now(),
               false, 'clamp', 'shift', 'first', 0, '[]', 'skip', '[]', '2026a', 'latest', 'skip', 3, 0, 0
        FROM generate_series(1, 20000) AS n""")
    )
    db.execute(text("ANALYZE scheduled_reviews"))
    due = "SELECT * FROM scheduled_reviews WHERE next_run <= now() ORDER BY next_run LIMIT 200 FOR NO KEY UPDATE"
    plan = "\n".join(row[0] for row in db.execute(text(f"EXPLAIN (ANALYZE, TIMING off) {due}")))
    assert "ix_scheduled_reviews_next_run" in plan
    assert "Seq Scan" not in plan


def test_a_newer_release_of_the_zone_rules_gives_the_next_slot_anew(db: Connection) -> None:
    command = CreateSchedule(schedule_type="daily", owner_id="o", timezone="Asia/Dubai")
    made = commands.create(db, command, clock(db))
    assert made["tzdata_version"] == zones.TZDATA_VERSION
    assert dispatch.follow_zones(db, clock(db)) == 0
    wrong = "UPDATE scheduled_reviews SET tzdata_version = '1999a', next_run = now() + interval '40 days'"
    db.execute(text(wrong))
    assert dispatch.follow_zones(db, clock(db)) == 1
    row = schedules.lock(db, made["schedule_id"])
    assert (row["next_run"].isoformat(), row["tzdata_version"]) == (made["next_run"], zones.TZDATA_VERSION)


def test_without_its_index_a_doubled_slot_is_found_and_runs_once(db: Connection) -> None:
    triggered(db)
    assert upkeep.left_behind(db)["slot_index"] is True
    db.execute(text("DROP INDEX uq_schedule_executions_slot"))
    for number in range(2):
        db.execute(text(COPY), {"number": number})
    assert upkeep.left_behind(db)["slot_index"] is False
    assert upkeep.single_out(db) == 2
    rows = db.execute(text("SELECT status, reason FROM schedule_executions ORDER BY status")).all()
    assert rows == [("queued", None), ("skipped", "coalesced"), ("skipped", "coalesced")]
    db.rollback()


COPY = """
    INSERT INTO schedule_executions (execution_id, schedule_id, kind, nominal_utc, status, priority, attempt,
        queued_at, not_before, publish_at, publishes)
    SELECT 'copy' || :number, schedule_id, kind, nominal_utc, status, priority, attempt,
        queued_at + interval '1 second', not_before, publish_at, publishes
    FROM schedule_executions WHERE execution_id NOT LIKE 'copy%'
"""
