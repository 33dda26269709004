"""What a subscriber missed: from the Stream where that goes on without gap, else from PostgreSQL (D-13, D-15)."""

from __future__ import annotations

import os
from itertools import islice

import pytest
from sqlalchemy import text

from sessionfleet.errors import ValidationFailed
from tests.integration.client.test_subscribe import marks, names, numbers
from tests.support import RunningFleet, eventually


def a_session(fleet: RunningFleet, events: int, *, ended: bool = False) -> str:
    """A session with so many events, all of them in its Stream."""
    session_id = str(fleet.call("session.create", status="active")["id"])
    for n in range(events - 2 - ended):
        fleet.client.send("session.emit_event", session_id=session_id, type="note", payload={"n": n})
    eventually(lambda: fleet.call("session.attach", session_id=session_id)["cursor"] == events - ended)
    if ended:
        fleet.call("session.complete", session_id=session_id)
    eventually(lambda: fleet.cache.xlen(stream(fleet, session_id)) == events)
    return session_id


def stream(fleet: RunningFleet, session_id: str) -> str:
    return f"{fleet.settings.channel_prefix}stream:session:{session_id}"


def connections(fleet: RunningFleet) -> list[str]:
    """This process's connections that are subscribed to one channel."""
    name = f"sessionfleet-client-{os.getpid()}"
    return [one["id"] for one in fleet.cache.client_list() if (one["name"], one["sub"]) == (name, "1")]


def forget_in_postgresql(fleet: RunningFleet, session_id: str) -> None:
    """Proves that what is read comes from Redis."""
    with fleet.engine.begin() as db:
        db.execute(text("DELETE FROM session_events WHERE session_id = CAST(:id AS uuid)"), {"id": session_id})


def test_back_after_a_day_and_a_trimmed_stream(fleet: RunningFleet) -> None:
    """AT-D7 [D-13 D-15]: every event once, a replay_end mark, then live ones, an end mark. A cursor does not age,
    only what is kept does: of the Stream four entries are left."""
    session_id = a_session(fleet, 30)
    with fleet.client.subscribe(session_id, after_seq=0) as events:
        cursor = list(islice(events, 5))[-1].seq
    fleet.cache.xtrim(stream(fleet, session_id), maxlen=4, approximate=False)
    with fleet.client.subscribe(session_id, after_seq=cursor) as events:
        missed = list(islice(events, 26))
        for _ in range(3):
            fleet.call("session.emit_event", session_id=session_id, type="note")
        fleet.call("session.complete", session_id=session_id)
        seen = [*missed, *events]
    assert numbers(seen) == list(range(6, 35))
    assert marks(seen) == [(25, "replay_end", None), (30, "end", "completed")]


def test_the_stream_alone_is_enough_where_it_reaches_back(
    fleet: RunningFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D-13: PostgreSQL is not asked for a single event; pages."""
    monkeypatch.setattr("sessionfleet.session_source.PAGE", 4)
    session_id = a_session(fleet, 14, ended=True)
    forget_in_postgresql(fleet, session_id)
    for cursor in (0, 3, 4, 13):
        seen = list(fleet.client.subscribe(session_id, after_seq=cursor))
        assert numbers(seen) == list(range(cursor + 1, 15))
        assert [name for _, name, _ in marks(seen)] == ["replay_end", "end"]


@pytest.mark.parametrize("damage", ["gone", "trimmed", "gap", "noise", "another kind"])
def test_whatever_became_of_the_stream(fleet: RunningFleet, damage: str) -> None:
    """D-13, D-15: every event once and in order."""
    session_id = a_session(fleet, 14, ended=True)
    key = stream(fleet, session_id)
    entries = fleet.cache.xrange(key)
    if damage == "trimmed":
        fleet.cache.xtrim(key, maxlen=5, approximate=False)
    elif damage == "gap":
        fleet.cache.xdel(key, entries[6][0])
    else:
        fleet.cache.delete(key)
    if damage == "noise":
        for entry_id, fields in entries:
            fleet.cache.xadd(key, fields | {"envelope": "{}", "seq": fields["seq"].replace("7", "x")}, id=entry_id)
    if damage == "another kind":
        fleet.cache.set(key, "?")
    for cursor in (0, 3, 10):
        assert numbers(fleet.client.subscribe(session_id, after_seq=cursor)) == list(range(cursor + 1, 15))


def test_a_gap_while_it_listens(fleet: RunningFleet) -> None:
    """D-07: a message that did not come shows by the next one's seq; here it is the Stream that fills the gap."""
    session_id = a_session(fleet, 3)
    with fleet.client.subscribe(session_id, marks=False) as events:
        fleet.call("session.emit_event", session_id=session_id, type="quiet", publish=False)
        fleet.call("session.emit_event", session_id=session_id, type="quiet", publish=False)
        eventually(lambda: fleet.cache.xlen(stream(fleet, session_id)) == 5)
        forget_in_postgresql(fleet, session_id)
        fleet.call("session.complete", session_id=session_id)
        assert names(events) == ["quiet", "quiet", "session.completed"]


def test_a_quiet_channel_is_not_trusted(fleet: RunningFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """D-07: what only the Stream has is found without another message."""
    monkeypatch.setattr("sessionfleet.session_source.LOOK_SECONDS", 0.2)
    session_id = a_session(fleet, 3)
    with fleet.client.subscribe(session_id, marks=False) as events:
        fleet.call("session.emit_event", session_id=session_id, type="quiet", publish=False)
        assert next(events).event_name == "quiet"


def test_a_cursor_of_another_past(fleet: RunningFleet) -> None:
    """D-15: it would never be reached."""
    session_id = a_session(fleet, 3)
    with pytest.raises(ValidationFailed, match="after_seq"):
        fleet.client.subscribe(session_id, after_seq=4)
    with pytest.raises(ValidationFailed, match="after_chunk"):
        fleet.client.output(session_id, after_chunk=1)


def test_deleted_while_nobody_listened(fleet: RunningFleet) -> None:
    """D-15: a connection that comes back finds what the Stream still has, then the end."""
    session_id = a_session(fleet, 5)
    with fleet.client.subscribe(session_id, ping=0.05) as events:
        assert next(events).is_replay_end
        mine = connections(fleet)
        assert mine
        fleet.call("session.pause", session_id=session_id)
        fleet.call("session.delete", session_id=session_id)
        for one in mine:
            fleet.cache.client_kill_filter(_id=one)
        rest = [event for event in events if not event.is_ping]
    assert names(rest) == ["session.paused", "session.deleted"]
    assert rest[-1].reason == "deleted"


def test_words_of_callers_are_no_marks(fleet: RunningFleet) -> None:
    """D-15: an event may be called like a mark."""
    session_id = a_session(fleet, 2)
    for word in ("end", "replay_end", "ping"):
        fleet.call("session.emit_event", session_id=session_id, type=word)
    fleet.call("session.complete", session_id=session_id)
    seen = list(fleet.client.subscribe(session_id, after_seq=2))
    assert [event.event_name for event in seen if event.is_mark] == ["replay_end", "end"]
    assert numbers(seen) == [3, 4, 5, 6]
