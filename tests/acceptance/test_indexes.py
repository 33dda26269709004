"""The database has the indexes that reads need, and the queries use them (rows Q-06, I-03)."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from sessionfleet import messages as m
from sessions import queries, sweeps
from sessions.policy import Policy
from sessions.store import loader
from tests.support import RunningFleet
from tests.support.months import Database

WANTED = {
    "sessions": [
        r"\(status",
        r"\(agent_id, created_at",
        r"\(user_id",
        r"\(owner_id",
        r"\(orchestrator_id\)",
        r"\(created_at DESC, id DESC\)",
        r"\(updated_at\)",
        r"\(process_id\)",
        r"\(last_activity\) WHERE .*status",
        r"\(recovery_needed.*\) WHERE recovery_needed",
        r"gin \(context_keys\)",
        r"\(id\) WHERE context_pending",
        r"gin \(account_ids\) WHERE \(account_ids <> '{}'",
        r"gin \(tags\) WHERE \(tags <> '{}'",
    ],
    "session_events": [
        r"UNIQUE .*\(session_id, seq",
        r"\(event_name",
        r"\(created_at\)",
        r"\(xid, id\)",
        r"gin \(entity_ids\)",
    ],
    "audit_events": [
        r'\(session_id, "timestamp"\)',
        r'\(event_type, "timestamp"\)',
        r'\(actor, "timestamp"\)',
        r'\(resource, "timestamp"\)',
        r'\("timestamp"\)',
        r"gin \(metadata\)",
    ],
}


@pytest.mark.parametrize("table", WANTED)
def test_the_indexes_of_the_row_exist(fleet: RunningFleet, table: str) -> None:
    """Q-06, I-03: on a partitioned table on its parent, so that every month has them. What is unpublished
    is read by (xid, id) after the relay's cursor."""
    with fleet.engine.connect() as db:
        statement = text("SELECT indexdef FROM pg_indexes WHERE tablename = :table AND schemaname = current_schema()")
        definitions = db.execute(statement, {"table": table}).scalars().all()
    missing = [wanted for wanted in WANTED[table] if not any(re.search(wanted, found) for found in definitions)]
    assert missing == []


MANY = text("""
    INSERT INTO sessions (
        id, external_id, status, session_type, runtime_metadata, context, context_version, metadata, account_ids,
        tags, priority, timeout_seconds, max_events, metrics, last_seq, state_version, revision, lease_epoch,
        recovery_needed, recovery_count, last_chunk, output_bytes, output_lines, last_activity, created_at,
        updated_at, user_id, owner_id, agent_id, orchestrator_id
    )
    SELECT gen_random_uuid(), 'e' || n, (ARRAY['active', 'paused', 'completed'])[1 + n % 3], 'task', '{}',
        jsonb_build_object('key', n), 1, '{}', ARRAY['a' || n % 2000], ARRAY['t' || n % 2000], 'medium', 1800, 1000,
        '{}', 1, 1, 1, 0, n % 1000 = 0, 0, 0, 0, 0, now(), now() - n * interval '1 second',
        now() - interval '1 hour', 'u' || n % 2000, 'o' || n % 2000, 'ag' || n % 2000, 'or' || n % 2000
    FROM generate_series(1, 20000) AS n
""")

FIRST_PAGES: list[tuple[dict[str, Any], str]] = [
    ({}, "created_at_id"),
    ({"status": "paused"}, "(status_)?created_at"),
    ({"agent_id": "ag7"}, "agent_id_created_at"),
    ({"user_id": "u7"}, "user_id_created_at"),
    ({"owner_id": "o7"}, "owner_id_created_at"),
    ({"orchestrator_id": "or7"}, "orchestrator_id"),
    ({"tag": "t7"}, "tags"),
    ({"account_id": "a7"}, "account_ids"),
    ({"context": {"key": 7}}, "context"),
    ({"recovery_needed": True}, "recovery_needed"),
]


def first_page_plan(db: Connection, filters: dict[str, Any]) -> str:
    """How PostgreSQL reads the first page of a list with these filters."""
    sent: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        sent.append((statement, parameters))

    event.listen(db, "before_cursor_execute", note)
    queries.page(db, m.List(**filters), Policy())
    event.remove(db, "before_cursor_execute", note)
    statement, parameters = sent[-1]
    return "\n".join(row[0] for row in db.exec_driver_sql(f"EXPLAIN {statement}", parameters))


def test_each_filter_reads_by_its_index(database: Database) -> None:
    """Q-06: with 20,000 sessions no first page reads the whole table."""
    with database.owner.begin() as db:
        db.execute(MANY)
        last = None
        while seen := sweeps.index_contexts(db, last, 5000):
            last = seen[-1].id
    with database.owner.connect() as db:
        db.execute(text("ANALYZE sessions"))
        for filters, index in FIRST_PAGES:
            plan = first_page_plan(db, filters)
            assert "Seq Scan" not in plan, (filters, plan)
            assert re.search(f"ix_sessions_{index}", plan), (filters, plan)


def test_a_lock_by_either_key_reads_by_index(database: Database) -> None:
    """A-02, Q-06: the loader's look-up by id or external id, which every write begins with."""
    with database.owner.begin() as db:
        db.execute(MANY)
        db.execute(text("ANALYZE sessions"))
        db.info.pop("prepared", None)
        db.exec_driver_sql("DEALLOCATE ALL")
        assert [record.external_id for record in loader.lock(db, ["e7"], []).records] == ["e7"]
        [name] = db.info["prepared"].values()
        db.exec_driver_sql("SET plan_cache_mode = force_generic_plan")  # what a busy connection comes to use
        plan = "\n".join(row[0] for row in db.exec_driver_sql(f"EXPLAIN EXECUTE {name} ('{{}}', '{{e7}}', '{{}}')"))
    assert "Seq Scan" not in plan, plan
    assert "uq_sessions_external_id" in plan, plan
