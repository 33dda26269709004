"""State and cursor from one snapshot (row D-15)."""

from __future__ import annotations

import threading
from uuid import uuid4

import pytest
from sqlalchemy import text

from sessionfleet.errors import SessionNotFound, ValidationFailed
from tests.support import RunningFleet
from tests.support.asking import events, new, refresh


def test_the_document_and_the_cursor_it_belongs_to(fleet: RunningFleet) -> None:
    """D-15: by either id; the document is session.get's, and nothing was written."""
    session = new(fleet, external_id=f"attach-{uuid4()}")
    fleet.call("session.append_output", session_id=session["id"], content="x\n")
    document = refresh(fleet, session["id"])
    expected = {"session": document, "state_version": document["state_version"], "cursor": 3, "last_chunk": 1}
    assert fleet.call("session.attach", session_id=session["id"]) == expected
    assert fleet.call("session.attach", session_id=session["external_id"]) == expected


def test_what_was_missed_comes_along(fleet: RunningFleet) -> None:
    """D-15: the first page; get_events goes on from it."""
    session_id = new(fleet)["id"]
    for n in range(5):
        fleet.call("session.emit_event", session_id=session_id, type="note", payload={"n": n})
    log = events(fleet, session_id)
    found = fleet.call("session.attach", session_id=session_id, after_seq=2, limit=3)
    assert (found["cursor"], found["items"], found["next_cursor"]) == (7, log[2:5], 5)
    rest = fleet.call("session.attach", session_id=session_id, after_seq=5)
    assert (rest["items"], rest["next_cursor"]) == (log[5:], None)
    assert fleet.call("session.attach", session_id=session_id, after_seq=7)["items"] == []


def test_nobody_and_another_past(fleet: RunningFleet) -> None:
    """D-15: a cursor this session never reached is refused, its reader would wait for ever."""
    session_id = new(fleet)["id"]
    with pytest.raises(SessionNotFound):
        fleet.call("session.attach", session_id="nobody")
    with pytest.raises(ValidationFailed) as refused:
        fleet.call("session.attach", session_id=session_id, after_seq=3)
    assert refused.value.details["last_seq"] == 2
    fleet.call("session.delete", session_id=session_id)
    with pytest.raises(SessionNotFound):
        fleet.call("session.attach", session_id=session_id, after_seq=0)


def test_an_overdue_session_reads_as_expired(fleet: RunningFleet) -> None:
    """D-15, E-06: as session.get says it."""
    session_id = new(fleet)["id"]
    with fleet.engine.begin() as db:
        overdue = "UPDATE sessions SET expires_at = now() - interval '1 hour' WHERE id = CAST(:id AS uuid)"
        db.execute(text(overdue), {"id": session_id})
    assert fleet.call("session.attach", session_id=session_id)["session"]["status"] == "expired"


def test_one_snapshot_whatever_is_written_meanwhile(fleet: RunningFleet) -> None:
    """D-15: each event of this session adds a line to its output, so each answer can be checked."""
    session_id = new(fleet)["id"]
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            handles = [
                fleet.client.submit("session.append_output", session_id=session_id, content="x\n") for _ in range(10)
            ]
            for handle in handles:
                handle.result(60)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        cursors = set()
        for _ in range(40):
            found = fleet.call("session.attach", session_id=session_id, after_seq=2, limit=1000)
            lines = found["session"]["output_lines"]
            assert found["cursor"] == found["session"]["last_seq"] == 2 + lines
            assert found["last_chunk"] == lines
            assert [item["seq"] for item in found["items"]] == list(range(3, found["cursor"] + 1))[:1000]
            assert found["state_version"] == found["session"]["state_version"]
            cursors.add(found["cursor"])
        assert len(cursors) > 5, "somebody wrote meanwhile"
    finally:
        over.set()
        writer.join()
