"""Deleting sessions through real workers (row Q-07, and I-04 for what it leaves)."""

from __future__ import annotations

from uuid import uuid4

import pytest
from sqlalchemy import text

from fanout.keys import document_key
from sessionfleet.errors import SessionExists, SessionNotFound
from tests.support import RunningFleet
from tests.support.asking import codes, events, get, new, stored, together
from tests.support.listening import Listener


def test_after_a_delete_the_older_session_of_a_user_is_the_newest(fleet: RunningFleet) -> None:
    """AT-Q2, first part [Q-04 Q-07]."""
    user_id = f"u-{uuid4()}"
    older, newest = new(fleet, user_id=user_id)["id"], new(fleet, user_id=user_id)["id"]
    assert fleet.call("session.get_by_user", user_id=user_id)["latest"]["id"] == newest
    assert fleet.call("session.delete", session_id=newest)["deleted"] is True
    found = fleet.call("session.get_by_user", user_id=user_id)
    assert (found["latest"]["id"], len(found["items"])) == (older, 1)


def test_a_deleted_session_is_gone_for_everybody(fleet: RunningFleet) -> None:
    """AT-Q2, second part [Q-07 A-12]: a second delete, reads and writes are E:SESSION_NOT_FOUND."""
    session = new(fleet, external_id=f"x-{uuid4()}", agent_id=f"a-{uuid4()}")
    gone = fleet.call("session.delete", session_id=session["external_id"])
    assert gone == {"deleted": True, "id": session["id"], "external_id": session["external_id"]}
    calls = [
        (f"session.{verb}", {"session_id": key})
        for verb in ("delete", "get", "pause", "touch", "read_output", "history")
        for key in (session["id"], session["external_id"])
    ]
    assert set(codes(together(fleet, calls))) == {"SESSION_NOT_FOUND"}
    assert fleet.call("session.count", agent_id=session["agent_id"])["total"] == 0
    shown = fleet.call("session.list", agent_id=session["agent_id"], include_deleted=True)["items"]
    assert [item["id"] for item in shown] == [session["id"]]


def test_rows_and_keys_go_a_tombstone_and_the_audit_stay(fleet: RunningFleet) -> None:
    """Q-07 [I-04]: content is wiped; `session.deleted` is sent and ends every cursor."""
    session_id = new(fleet, context={"secret": 1}, query="private", tags=["t"], checkpoint={"a": 1})["id"]
    fleet.call("session.append_output", session_id=session_id, content="secret output")
    audited = stored(fleet, session_id)["audited"]
    with Listener(fleet.cache, f"session:{session_id}") as listener:
        fleet.call("session.delete", session_id=session_id)
        message = listener.until_seq(f"session:{session_id}", session_id, 4)[-1]  # what came before may be late
    assert message["event_name"] == "session.deleted"
    after = stored(fleet, session_id)
    assert (after["chunks"], after["transitions"]) == (0, 0)
    assert after["audited"] > audited
    row = after["row"]
    assert row["deleted_at"]
    assert (row["context"], row["query"], row["tags"], row["checkpoint"]) == ({}, None, [], None)
    assert (row["status"], row["end_reason"]) == ("terminated", "deleted")
    assert events(fleet, session_id)[-1]["event_name"] == "session.deleted"
    with pytest.raises(SessionNotFound):
        get(fleet, session_id)
    entry = fleet.cache.get(document_key(session_id))
    assert entry is None or '"deleted":true' in entry


def test_of_n_sessions_the_others_stay_usable(fleet: RunningFleet) -> None:
    """AT-Q2, third part [Q-07 A-19]: deleting k of n leaves n-k."""
    user_id = f"u-{uuid4()}"
    ids = [document["id"] for document in together(fleet, [("session.create", {"user_id": user_id})] * 12)]
    together(fleet, [("session.delete", {"session_id": session_id}) for session_id in ids[::3]])
    rest = [session_id for session_id in ids if session_id not in ids[::3]]
    outcomes = together(fleet, [("session.start", {"session_id": session_id}) for session_id in rest])
    assert codes(outcomes) == ["ok"] * 8
    assert fleet.call("session.count", user_id=user_id)["by_status"]["active"] == 8


def test_rivals_for_one_delete(fleet: RunningFleet) -> None:
    """Q-07: one of ten finds the session, the others do not; one event."""
    session_id = new(fleet)["id"]
    outcomes = together(fleet, [("session.delete", {"session_id": session_id})] * 10)
    assert sorted(codes(outcomes)) == ["SESSION_NOT_FOUND"] * 9 + ["ok"]
    assert len(events(fleet, session_id, "session.deleted")) == 1


def test_all_sessions_of_one_user(fleet: RunningFleet) -> None:
    """Q-07: live and ended ones, exact count; another user's stay; a second call finds none."""
    user_id, other = f"u-{uuid4()}", f"u-{uuid4()}"
    ids = {new(fleet, user_id=user_id)["id"] for _ in range(5)}
    fleet.call("session.complete", session_id=min(ids))
    new(fleet, user_id=other)
    gone = fleet.call("session.delete_by_user", user_id=user_id)
    assert gone["deleted"] == 5
    assert set(gone["ids"]) == ids
    assert fleet.call("session.delete_by_user", user_id=user_id) == {"deleted": 0, "ids": []}
    assert fleet.call("session.count", user_id=other)["total"] == 1
    assert codes(together(fleet, [("session.get", {"session_id": i}) for i in ids])) == ["SESSION_NOT_FOUND"] * 5


def test_a_tombstone_goes_after_30_days_and_its_audit_stays(fleet: RunningFleet) -> None:
    """Q-07: maintenance.purge_old counts what it removes; a younger tombstone stays."""
    old, young = new(fleet)["id"], new(fleet)["id"]
    for session_id in (old, young):
        fleet.call("session.delete", session_id=session_id)
    with pytest.raises(SessionExists):
        fleet.call("session.create", id=old)
    move = text("UPDATE sessions SET deleted_at = deleted_at - interval '31 days' WHERE id = CAST(:id AS uuid)")
    with fleet.engine.begin() as db:
        db.execute(move, {"id": old})
    assert fleet.call("maintenance.purge_old", timeout=60)["tombstones"] >= 1
    counts = text("""
        SELECT (SELECT count(*) FROM sessions WHERE id = CAST(:id AS uuid)),
               (SELECT count(*) FROM session_events WHERE session_id = CAST(:id AS uuid)),
               (SELECT count(*) > 0 FROM audit_events WHERE session_id = CAST(:id AS uuid))
    """)
    with fleet.engine.connect() as db:
        assert db.execute(counts, {"id": old}).one() == (0, 0, True)
    assert stored(fleet, young)["row"]["deleted_at"]
    with pytest.raises(SessionNotFound):
        fleet.call("session.get_events", session_id=old)
    assert fleet.call("session.create", id=old)["id"] == old
