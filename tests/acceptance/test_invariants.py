"""After any mixture of parallel writes a session's rows agree with each other (invariants 2, 3, 6 and 8)."""

from __future__ import annotations

import random
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from sessionfleet.words import TERMINAL
from tests.support import RunningFleet
from tests.support.agreement import CHECKS
from tests.support.asking import codes, get, refresh, together

SESSIONS, WRITES = 10, 30

KINDS: list[tuple[str, dict[str, Any]]] = [
    ("session.start", {}),
    ("session.pause", {"reason": "p"}),
    ("session.resume", {}),
    ("session.idle", {}),
    ("session.wait_input", {}),
    ("session.set_status", {"status": "active"}),
    ("session.interrupt", {}),
    ("session.recover", {}),
    ("session.update", {"context": {"a": {"b": 1}}, "user_id": "u"}),
    ("session.update", {"context": {"a": None}, "status": "paused"}),
    ("session.update", {"mode": "append", "context": {"log": [1]}, "tags": ["t"]}),
    ("session.update", {}),
    ("session.update_context", {"processed_accounts": {"add": ["x"]}}),
    ("session.update_metrics", {"metrics": {"n": 1, "times": [1]}}),
    ("session.append_output", {"content": "line\nline\n"}),
    ("session.append_output", {"content": "e", "stream": "stderr"}),
    (
        "session.emit_event",
        {"type": "new", "change_info": {"elementType": "f", "operation": "x", "entityIds": ["e"]}},
    ),
    ("session.touch", {}),
    ("session.extend", {"seconds": 5}),
    ("session.update", {"expected_version": 1, "work_state": "w"}),
]
RARE: list[tuple[str, dict[str, Any]]] = [
    ("session.complete", {"metrics": {"n": 1}}),
    ("session.fail", {"error": "e"}),
    ("session.terminate", {}),
]

OF_MARK = "session_id IN (SELECT id FROM sessions WHERE owner_id = :mark)"
FAULTS = {
    "seq runs from 1 to last_seq without gap": f"DELETE FROM session_events WHERE {OF_MARK} AND seq = 2",
    "events are in order of time": f"UPDATE session_events SET xid = '999999999999' WHERE {OF_MARK} AND seq = 2",
    "versions of update events lead from one to the next": f"""
        UPDATE session_events SET metadata = metadata || '{{"version_from": 99}}' WHERE {OF_MARK} AND seq = 1
    """,
    "the last version is the session's": "UPDATE sessions SET state_version = 99 WHERE owner_id = :mark",
    "transitions are a chain that ends at the status": f"DELETE FROM session_transitions WHERE {OF_MARK} AND seq = 1",
    "each transition has its event at its seq": f"UPDATE session_transitions SET at = now() WHERE {OF_MARK}",
    "chunks are numbered and begin where those before them end; only what is beyond the buffer is gone": f"""
        UPDATE session_output SET start_bytes = 1 WHERE {OF_MARK} AND chunk_no = 1
    """,
    "every event has an audit row of its instant": f"UPDATE session_events SET task_id = 'x' WHERE {OF_MARK}",
    "ended is ended": "UPDATE sessions SET ended_at = NULL WHERE owner_id = :mark",
    "live has a deadline that somebody looks at in time": """
        UPDATE sessions SET next_check_at = NULL WHERE owner_id = :mark
    """,
    "the numbers of all sessions are as many as there are": """
        INSERT INTO session_counts (status, archived, change)
        SELECT status, false, 1 FROM sessions WHERE owner_id = :mark
    """,
}
"""What would break each rule."""


@pytest.fixture(scope="module")
def written(fleet: RunningFleet) -> str:
    """The owner of sessions that were written to from all sides, in random order, all in flight at once."""
    mark, chosen = f"owner-{uuid4()}", random.Random(20)
    creates = [("session.create", {"owner_id": mark, "status": status}) for status in ("active", "initializing")]
    ids = [document["id"] for document in together(fleet, creates * (SESSIONS // 2))]
    calls = [
        (name, {"session_id": i, **arguments}) for i in ids for name, arguments in chosen.choices(KINDS, k=WRITES)
    ]
    chosen.shuffle(calls)
    calls += [(name, {"session_id": i, **arguments}) for i in ids[::2] for name, arguments in [chosen.choice(RARE)]]
    calls += [(name, {"session_id": i, **arguments}) for i in ids for name, arguments in chosen.choices(KINDS, k=3)]
    outcomes = codes(together(fleet, calls, 120))
    assert set(outcomes) <= {"ok", "INVALID_TRANSITION", "VERSION_CONFLICT"}
    assert outcomes.count("ok") > len(outcomes) / 3
    return mark


@pytest.mark.parametrize("rule", CHECKS)
def test_the_rows_of_a_session_agree(fleet: RunningFleet, written: str, rule: str) -> None:
    with fleet.engine.connect() as db:
        parameters = {"mark": written, "terminal": sorted(TERMINAL)}
        assert db.execute(text(CHECKS[rule]), parameters).all() == []


@pytest.mark.parametrize("rule", CHECKS)
def test_a_planted_fault_is_found(fleet: RunningFleet, written: str, rule: str) -> None:
    parameters = {"mark": written, "terminal": sorted(TERMINAL)}
    with fleet.engine.connect() as db, db.begin() as transaction:
        assert db.execute(text(FAULTS[rule]), parameters).rowcount > 0
        assert db.execute(text(CHECKS[rule]), parameters).all()
        transaction.rollback()


def test_cache_table_and_list_show_the_same(fleet: RunningFleet, written: str) -> None:
    """B-10: one shape from all three."""
    listed = fleet.call("session.list", owner_id=written)["items"]
    assert len(listed) == SESSIONS
    for document in listed:
        assert get(fleet, document["id"]) == document
        assert refresh(fleet, document["id"]) == document
