"""maintenance.purge_old on a real fleet: stored answers and tombstones go when their time is over (B-13, Q-07)."""

from __future__ import annotations

from uuid import uuid4

import pytest
from sqlalchemy import text

from sessionfleet.errors import SessionNotFound
from tests.support import RunningFleet

OUTPUT = """
    INSERT INTO session_output (session_id, chunk_no, stream, content, bytes, start_bytes, start_lines, created_at)
    VALUES (:id, 1, 'stdout', 'a', 1, 0, 0, now())
"""
TRANSITION = "INSERT INTO session_transitions (session_id, seq, to_status, at) VALUES (:id, 999, 'active', now())"


def test_what_has_outlived_its_keep_goes_and_nothing_else(fleet: RunningFleet) -> None:
    old, fresh, living = (fleet.call("session.create", idempotency_key=str(uuid4())) for _ in range(3))
    for one in (old, fresh):
        fleet.call("session.delete", session_id=one["id"])
    key, kept_key = str(uuid4()), str(uuid4())
    for used in (key, kept_key):
        fleet.call("session.touch", session_id=living["id"], idempotency_key=used)
    with fleet.engine.begin() as db:
        db.execute(
            text("UPDATE sessions SET deleted_at = now() - interval '31 days' WHERE id = :id"), {"id": old["id"]}
        )
        db.execute(text("UPDATE idempotency_keys SET expires_at = now() WHERE key = :key"), {"key": key})
        for one in (old, fresh):  # as a delete does not leave them
            db.execute(text(OUTPUT), {"id": one["id"]})
            db.execute(text(TRANSITION), {"id": one["id"]})

    purged = fleet.call("maintenance.purge_old")
    assert purged["tombstones"] >= 1
    assert purged["idempotency_keys"] >= 1

    assert fleet.call("session.get_events", session_id=fresh["id"])["last_seq"] == 2, "its tombstone is young"
    with pytest.raises(SessionNotFound):
        fleet.call("session.get_events", session_id=old["id"])
    assert fleet.call("session.touch", session_id=living["id"], idempotency_key=kept_key)["replayed"]
    assert "replayed" not in fleet.call("session.touch", session_id=living["id"], idempotency_key=key)
    with fleet.engine.connect() as db:
        for table in ("sessions", "session_events", "session_output", "session_transitions"):
            column = "id" if table == "sessions" else "session_id"
            left = text(f"SELECT count(*) FROM {table} WHERE {column} = :id")
            assert db.scalar(left, {"id": old["id"]}) == 0, table
            assert db.scalar(left, {"id": fresh["id"]}) > 0, table
        audit = db.scalar(text("SELECT count(*) FROM audit_events WHERE session_id = :id"), {"id": old["id"]})
        assert audit >= 2, "the audit stays"
