"""What a plain Redis client sees of a session's events (rows D-02, D-03, D-06, D-07, R-04)."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from tests.support import RunningFleet
from tests.support.listening import Listener, stream_entries
from tests.support.private import PrivateFleet

ALL = "events:session"
ENVELOPE = {
    "event_id",
    "message_id",
    "event_name",
    "event_type",
    "aggregate_type",
    "aggregate_id",
    "session_id",
    "seq",
    "timestamp",
    "actor",
    "payload",
    "metadata",
    "version",
    "retry_count",
}


def new(fleet: RunningFleet, **arguments: Any) -> str:
    return str(fleet.call("session.create", **arguments)["id"])


def core(envelope: dict[str, Any]) -> dict[str, Any]:
    """The fields of D-02, without what the way adds."""
    return {name: envelope[name] for name in ENVELOPE}


def test_a_raw_subscriber_reads_created_and_updated(fleet: RunningFleet) -> None:
    """AT-D2 [D-02 D-06 R-04]: the two shapes on `events:session`, pause being a session.updated."""
    with Listener(fleet.cache, ALL) as listener:
        session_id = new(
            fleet, agent_id="agent-1", session_type="development", runtime_backend="local", status="active"
        )
        fleet.call("session.pause", session_id=session_id)
        heard = listener.until_seq(ALL, session_id, 3)
    created, paused = heard[0], heard[-1]
    assert created["event_type"] == created["event_name"] == "session.created"
    assert created["payload"] == {
        "agent_id": "agent-1",
        "session_type": "development",
        "runtime_backend": "local",
    }
    assert (paused["event_type"], paused["event_name"]) == ("session.updated", "session.paused")
    assert paused["payload"] == {"agent_id": "agent-1", "status": "paused", "updates": ["status"]}
    for message in heard:
        assert message["aggregate_type"] == "session"
        assert message["aggregate_id"] == session_id


def test_updates_name_only_what_changed(fleet: RunningFleet) -> None:
    """D-06 [B-04]: a field that keeps its value is not listed, and nothing changed is no event."""
    with Listener(fleet.cache, ALL) as listener:
        session_id = new(fleet, agent_id="agent-1", model="m1")
        fleet.call("session.update", session_id=session_id, model="m1")
        fleet.call("session.update", session_id=session_id, model="m1", provider="p", checkpoint={"step": 1})
        [_, message] = listener.until_seq(ALL, session_id, 2)
    assert message["seq"] == 2
    assert message["event_name"] == message["event_type"] == "session.updated"
    assert message["payload"] == {
        "agent_id": "agent-1",
        "status": "initializing",
        "updates": ["provider", "checkpoint"],
    }


def test_the_envelope_is_the_same_on_every_way(fleet: RunningFleet) -> None:
    """D-02, D-07: both channels, both Streams and get_events agree field by field."""
    session_id = str(uuid4())
    own = f"session:{session_id}"
    start = datetime.now(UTC)
    with Listener(fleet.cache, ALL, own) as listener:
        new(fleet, id=session_id, actor="ada")
        fleet.call("session.start", session_id=session_id, actor="bob", reason="go")
        fleet.call("session.append_output", session_id=session_id, content="Zeile\n", stream="stderr")
        fleet.call("session.emit_event", session_id=session_id, type="fixed", payload={"n": [1, None, "ü"]})
        heard = listener.until_seq(ALL, session_id, 4)
        on_own = listener.until_seq(own, session_id, 4)
    assert heard == on_own
    stored = fleet.call("session.get_events", session_id=session_id)["items"]
    assert [core(event) for event in stored] == [core(message) for message in heard]
    for stream in ("stream:events", f"stream:{own}"):
        entries = stream_entries(fleet.cache, stream, session_id)
        assert [core(json.loads(fields["envelope"])) for _, fields in entries] == [core(event) for event in stored]
        assert [entry for entry, _ in entries] == [message["stream_id"] for message in heard]
        for event, (_, fields) in zip(stored, entries, strict=True):
            assert fields["event_id"] == event["event_id"]
            assert (fields["seq"], fields["event_name"]) == (str(event["seq"]), event["event_name"])

    assert [event["seq"] for event in stored] == [1, 2, 3, 4]
    assert [event["actor"] for event in stored] == ["ada", "bob", None, None]
    assert len({event["event_id"] for event in stored}) == 4
    for event in stored:
        assert set(event) == ENVELOPE
        UUID(event["event_id"])
        assert event["message_id"] == f"{session_id}-{event['event_name']}-{event['seq']}"
        assert event["session_id"] == event["aggregate_id"] == session_id
        assert (event["aggregate_type"], event["version"], event["retry_count"]) == ("session", 1, 0)
        at = datetime.fromisoformat(event["timestamp"])
        assert at.utcoffset() == timedelta(0)
        assert abs(at - start) < timedelta(minutes=1)
    ids = [tuple(int(part) for part in message["stream_id"].split("-")) for message in heard]
    assert ids == sorted(set(ids))


def test_every_status_event_is_an_update_on_the_channel(fleet: RunningFleet) -> None:
    """R-04, D-03: event_type is session.updated for each later state change, event_name stays canonical."""
    with Listener(fleet.cache, ALL) as listener:
        session_id = new(fleet)
        for verb in ("start", "idle", "wait_input", "pause", "resume", "interrupt", "recover", "crash", "terminate"):
            fleet.call(f"session.{verb}", session_id=session_id)
        heard = listener.until_seq(ALL, session_id, 10)[1:]
    assert {message["event_type"] for message in heard} == {"session.updated"}
    assert [message["event_name"].removeprefix("session.") for message in heard] == [
        "started",
        "idle",
        "waiting_input",
        "paused",
        "resumed",
        "interrupted",
        "recovered",
        "crashed",
        "terminated",
    ]
    assert [message["payload"]["status"] for message in heard][-3:] == ["active", "crashed", "terminated"]


def test_publish_false_stays_off_the_channels_but_in_the_streams(fleet: RunningFleet) -> None:
    """D-04: a subscriber sees the gap by seq and finds the event in the Stream and in the log."""
    session_id = str(uuid4())
    own = f"session:{session_id}"
    with Listener(fleet.cache, ALL, own) as listener:
        new(fleet, id=session_id)
        fleet.call("session.emit_event", session_id=session_id, type="secret", publish=False)
        fleet.call("session.emit_event", session_id=session_id, type="loud")
        for channel in (ALL, own):
            heard = listener.until_seq(channel, session_id, 3)
            assert [message["event_name"] for message in heard] == ["session.created", "loud"]
    streamed = stream_entries(fleet.cache, f"stream:{own}", session_id)
    assert [fields["event_name"] for _, fields in streamed] == ["session.created", "secret", "loud"]
    assert [event["seq"] for event in fleet.call("session.get_events", session_id=session_id)["items"]] == [1, 2, 3]


def story(fleet: RunningFleet) -> str:
    """A session that is created, works, fails to stay and ends."""
    session_id = new(fleet)
    for verb in ("start", "pause", "resume", "complete"):
        fleet.call(f"session.{verb}", session_id=session_id)
    return session_id


def test_the_global_channel_has_created_and_ended_only(fleet: RunningFleet) -> None:
    """AT-D12, middle part [D-07]."""
    with Listener(fleet.cache, "global:sessions") as listener:
        session_id = story(fleet)
        heard = listener.until_seq("global:sessions", session_id, 5)
    assert [message["event_name"] for message in heard] == ["session.created", "session.completed"]


def test_every_channel_and_stream_is_under_the_prefix(private_fleet: PrivateFleet) -> None:
    """AT-D12, first part [D-07]: with FLEET_CHANNEL_PREFIX nothing is said on the bare names."""
    prefix = "acme:"
    fleet = private_fleet(FLEET_CHANNEL_PREFIX=prefix)
    names = ("events:session", "global:sessions")
    with Listener(fleet.cache, *names, *(prefix + name for name in names)) as listener:
        session_id = story(fleet)
        assert len(listener.until_seq(f"{prefix}events:session", session_id, 5)) == 5
        assert len(listener.until_seq(f"{prefix}global:sessions", session_id, 5)) == 2
        assert {channel for channel, _ in listener.heard} == {prefix + name for name in names}
    bare = f"session:{session_id}"
    with Listener(fleet.cache, prefix + bare, bare) as listener:
        fleet.call("session.delete", session_id=session_id)
        listener.until_seq(prefix + bare, session_id, 6)
        assert {channel for channel, _ in listener.heard} == {prefix + bare}
    streams = {key for key in fleet.cache.scan_iter() if fleet.cache.type(key) == "stream"}
    assert streams >= {
        f"{prefix}stream:{name}" for name in ("events", f"session:{session_id}", f"output:{session_id}")
    }
    assert all(name.startswith(prefix) for name in streams)
    assert not [key for key in fleet.cache.scan_iter() if re.match(rf"{prefix}sess:", key)]
