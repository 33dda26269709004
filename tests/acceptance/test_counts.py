"""How many sessions there are, from numbers that are kept up with every change (row Q-03)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from sessionfleet import messages as m
from sessionfleet.words import STATUSES
from sessions import queries
from tests.support import RunningFleet, eventually
from tests.support.agreement import CHECKS
from tests.support.months import Database
from workers.migrate import migrate
from workers.settings import Settings

AGREE = CHECKS["the numbers of all sessions are as many as there are"]
DUTY = "maintenance.sum_counts"


SESSIONS = """
    INSERT INTO sessions (
        id, external_id, status, session_type, runtime_metadata, context, context_version, metadata, account_ids,
        tags, priority, timeout_seconds, max_events, metrics, last_seq, state_version, revision, lease_epoch,
        recovery_needed, recovery_count, last_chunk, output_bytes, output_lines, last_activity, created_at,
        updated_at, expires_at, next_check_at
    )
    SELECT gen_random_uuid(), gen_random_uuid(), 'active', 'task', '{{}}', '{{}}', 1, '{{}}', '{{}}', '{{}}',
        'medium', 86400, 1000, '{{}}', 1, 1, 1, 0, false, 0, 0, 0, 0, now(), now(),
        now(), now() + interval '1 day', now() + interval '1 day'
    FROM generate_series(1, {count})
"""


def differences(fleet: RunningFleet) -> list[str]:
    """Statuses whose kept number is wrong, in one snapshot."""
    with fleet.engine.connect() as db:
        return list(db.execute(text(AGREE), {"mark": ""}).scalars())


def counted(fleet: RunningFleet, **filters: Any) -> dict[str, int]:
    """What session.count answers, without statuses that do not occur."""
    answer = fleet.call("session.count", **filters)
    assert set(answer["by_status"]) == set(STATUSES)
    assert answer["total"] == sum(answer["by_status"].values())
    return {status: number for status, number in answer["by_status"].items() if number}


def changed(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """By how much each number has changed, where it has."""
    new = {status: after.get(status, 0) - before.get(status, 0) for status in STATUSES}
    return {status: number for status, number in new.items() if number}


@pytest.mark.parametrize("summed", [False, True])
def test_every_step_of_a_life_counts(fleet: RunningFleet, summed: bool) -> None:
    """Q-03, E-06: creation, moves, an overdue session, archive and deletion, before and after they are summed up."""

    def now(**filters: Any) -> dict[str, int]:
        if summed:
            fleet.call(DUTY)
        return changed(before, counted(fleet, **filters))

    before = counted(fleet)
    ids = [fleet.call("session.create", status="active")["id"] for _ in range(4)]
    assert now() == {"active": 4}
    fleet.call("session.pause", session_id=ids[0])
    fleet.call("session.complete", session_id=ids[1])
    assert now() == {"active": 2, "paused": 1, "completed": 1}
    with fleet.engine.begin() as db:
        db.execute(text("UPDATE sessions SET expires_at = now() - interval '1 s' WHERE id = :id"), {"id": ids[0]})
        db.execute(text("UPDATE sessions SET archived_at = now() WHERE id = :id"), {"id": ids[1]})
    assert now() == {"active": 2, "expired": 1}
    assert now(include_archived=True) == {"active": 2, "expired": 1, "completed": 1}
    assert now(status=["active", "paused"]) == {"active": 2} | {
        status: -number for status, number in before.items() if status not in ("active", "paused")
    }
    fleet.call("maintenance.cleanup_stale", timeout=60)
    assert now()["expired"] >= 1
    for id_ in ids:
        fleet.call("session.delete", session_id=id_)
    assert now().get("active", 0) == 0
    assert differences(fleet) == []


def test_the_number_of_a_status_is_that_of_all(fleet: RunningFleet) -> None:
    """A filter that has to read the sessions answers the same."""
    fleet.call("session.create", status="active")
    everything = "1970-01-01T00:00:00+00:00"
    for filters in ({}, {"status": "active"}, {"status": ["expired", "active"]}, {"include_archived": True}):
        assert counted(fleet, **filters) == counted(fleet, **filters, created_after=everything), filters


def test_numbers_agree_at_any_moment(fleet: RunningFleet) -> None:
    """Eight writers, and the duty all the time: in every snapshot the numbers are those of the sessions."""
    over = threading.Event()
    wrong: list[list[str]] = []

    def look() -> None:
        while not over.is_set():
            if found := differences(fleet):
                wrong.append(found)

    def live(_: int) -> None:
        for _ in range(5):
            id_ = fleet.call("session.create", status="active")["id"]
            fleet.call("session.pause", session_id=id_)
            fleet.call(DUTY)
            fleet.call("session.terminate", session_id=id_)
            fleet.call("session.delete", session_id=id_)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(live, range(8)))
    finally:
        over.set()
        looking.join()
    assert wrong == []
    eventually(lambda: fleet.call(DUTY)["summed"] <= 2 * len(STATUSES))


def test_counting_reads_no_session(database: Database) -> None:
    """Q-03: whatever their number; overdue ones are found by their index."""
    database.run(SESSIONS.format(count=20_000))
    database.run("ANALYZE sessions")
    with database.owner.connect() as db:
        statement = queries._sums(m.Count(), queries.clock(db))
        compiled = statement.compile(db, compile_kwargs={"literal_binds": True})
        plan = "\n".join(row[0] for row in db.exec_driver_sql(f"EXPLAIN {compiled}".replace("%", "%%")))
        assert queries.count(db, m.Count())["by_status"]["active"] == 20_000
    assert "Seq Scan on sessions" not in plan, plan
    assert "ix_sessions_next_check_at" in plan, plan


def test_a_migration_counts_what_is_there(database: Database) -> None:
    """Also a second time, and after a downgrade; a table that is emptied has none."""
    settings = Settings.load(database_url=database.url)
    database.run(SESSIONS.format(count=5))
    for target in ("0009_pre_context_keys", "0010_pre_session_counts", "0010_pre_session_counts"):
        migrate(settings, to=target)
    with database.owner.connect() as db:
        assert queries.count(db, m.Count())["by_status"]["active"] == 5
    database.run("TRUNCATE sessions")
    with database.owner.connect() as db:
        assert queries.count(db, m.Count())["total"] == 0
