"""Output on its way through the relay: Stream and channel, in order, once, bounded (row C-04)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import Connection, text

from fanout.connection import PATIENT, connect
from fanout.keys import Keys
from fanout.publish import OUTPUT_ENTRIES, Outgoing, Output, Publisher
from fanout.streams import Streams
from sessions import leadership, outbox
from sessions.outbox import Leader
from tasks.outbox_drain import Drain
from tests.support.outbox import Listener, LocalWorker, drained, horizon_passes
from tests.support.running import RunningFleet
from tests.support.waiting import eventually

Entries = list[tuple[str, dict[str, str]]]


@pytest.fixture
def publisher(fanout_fleet: RunningFleet) -> Iterator[Publisher]:
    client = connect(fanout_fleet.settings.cache_url, name="test", timeout=PATIENT)
    yield Publisher(client, Keys())
    client.close()


@pytest.fixture
def drain(fanout_fleet: RunningFleet, publisher: Publisher) -> Iterator[Drain]:
    with fanout_fleet.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        yield begun(db, publisher)


def begun(db: Connection, publisher: Publisher) -> Drain:
    db.execute(text("UPDATE leader_leases SET expires_at = '-infinity'"))
    epoch = leadership.take(db, outbox.NAME, "test", 60)
    assert epoch is not None
    drain = Drain(db, publisher, Leader("test", epoch))
    drain.begin()
    return drain


def stream(fleet: RunningFleet, session_id: str) -> Entries:
    found: Any = fleet.cache.xrange(f"stream:output:{session_id}")
    return list(found)


def append(worker: LocalWorker, session_id: str, content: str, channel: str = "stdout") -> None:
    worker.call("session.append_output", session_id=session_id, content=content, stream=channel)


def test_chunks_and_the_end_reach_stream_and_channel(
    worker: LocalWorker, drain: Drain, fanout_fleet: RunningFleet
) -> None:
    session_id = worker.create(status="active")
    with Listener(fanout_fleet.cache, f"session:{session_id}") as listener:
        append(worker, session_id, "grün\n")
        append(worker, session_id, "oops\n", "stderr")
        worker.call("session.complete", session_id=session_id)
        drained(drain)
        eventually(lambda: len(listener.messages) == 7)
    heard = [message for _, message in listener.messages]
    chunks = [message for message in heard if message.get("type") == "output"]
    read = worker.call("session.read_output", session_id=session_id)["chunks"]
    expected = [
        {
            "type": "output",
            "session_id": session_id,
            **{name: chunk[name] for name in ("chunk_no", "stream", "content")},
            "at": chunk["created_at"],
        }
        for chunk in read
    ]
    assert chunks == expected
    assert [chunk["content"] for chunk in chunks] == ["grün\n", "oops\n"]
    events = [message for message in heard if "event_name" in message]
    assert [event["seq"] for event in events] == [1, 2, 3, 4, 5]
    assert all("content" not in event["payload"] for event in events)
    entries = stream(fanout_fleet, session_id)
    assert [fields for _, fields in entries] == [
        {"chunk_no": "1", "stream": "stdout", "content": "grün\n", "at": read[0]["created_at"]},
        {"chunk_no": "2", "stream": "stderr", "content": "oops\n", "at": read[1]["created_at"]},
        {"end": "completed"},
    ]
    assert [entry for entry, _ in entries] == ["1-0", "2-0", "2-1"]
    assert 604_700 < fanout_fleet.cache.ttl(f"stream:output:{session_id}") <= 604_800


def test_after_a_crash_nothing_comes_twice(
    worker: LocalWorker, fanout_fleet: RunningFleet, publisher: Publisher
) -> None:
    """The relay published and did not get to save its cursor."""
    session_id = worker.create(status="active")
    for number in range(3):
        append(worker, session_id, f"{number}\n")
    with fanout_fleet.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        drained(begun(db, publisher))
        db.execute(text("DELETE FROM relay_cursors"))
        with Listener(fanout_fleet.cache, f"session:{session_id}") as listener:
            append(worker, session_id, "3\n")
            drained(begun(db, publisher))
            eventually(lambda: len(listener.messages) == 2)
    assert [fields["content"] for _, fields in stream(fanout_fleet, session_id)] == ["0\n", "1\n", "2\n", "3\n"]
    assert [message["type"] for _, message in listener.messages] == ["output.received", "output"]


def test_a_deleted_sessions_output_ends_and_goes_soon(
    worker: LocalWorker, drain: Drain, fanout_fleet: RunningFleet
) -> None:
    session_id = worker.create(status="active")
    append(worker, session_id, "x")
    drained(drain)
    append(worker, session_id, "never seen by the relay")
    worker.call("session.delete", session_id=session_id)
    drained(drain)
    entries = stream(fanout_fleet, session_id)
    assert [fields.get("content", fields.get("end")) for _, fields in entries] == ["x", "terminated"]
    assert 0 < fanout_fleet.cache.ttl(f"stream:output:{session_id}") <= 300


def test_a_large_batch_is_cut_by_what_its_chunks_weigh(
    worker: LocalWorker, drain: Drain, fanout_fleet: RunningFleet
) -> None:
    """40 chunks of 262,144 bytes are 10 MiB: a batch takes about 4 MiB, the Stream keeps all 40, no more."""
    session_id = worker.create(status="active")
    append(worker, session_id, "x" * 262_144 * 41)
    horizon_passes(fanout_fleet)
    steps = 0
    while drain.step().published:
        steps += 1
    assert steps == 3
    numbers = [int(fields["chunk_no"]) for _, fields in stream(fanout_fleet, session_id)]
    assert numbers == list(range(2, 42))


def test_the_stream_keeps_the_last_chunks(publisher: Publisher, fanout_fleet: RunningFleet) -> None:
    events = [
        Outgoing(
            f"{n}-{n}", f"e-{n}", "s-1", n, "output.received", 1000, "{}", output=Output.chunk("s-1", n, "x", "c", "")
        )
        for n in range(1, OUTPUT_ENTRIES + 201)
    ]
    assert publisher.publish(events).done == len(events)
    entries: Any = fanout_fleet.cache.xrange("stream:output:s-1")
    assert [entry for entry, _ in entries] == [f"{n}-0" for n in range(201, OUTPUT_ENTRIES + 201)]


def test_another_kind_of_value_there_stops_nothing(
    worker: LocalWorker, drain: Drain, fanout_fleet: RunningFleet
) -> None:
    session_id = worker.create(status="active")
    fanout_fleet.cache.set(f"stream:output:{session_id}", "no stream")
    append(worker, session_id, "x")
    with Listener(fanout_fleet.cache, f"session:{session_id}") as listener:
        drained(drain)
        eventually(lambda: any(message["type"] == "output" for _, message in listener.messages))


def test_a_new_generation_begins_without_output(publisher: Publisher, fanout_fleet: RunningFleet) -> None:
    """Numbers of chunks belong to a past that the restored database may not have had."""
    redis: Redis = fanout_fleet.cache
    redis.xadd("stream:output:s-1", {"end": "completed"}, id="7-1")
    Streams(publisher.client, publisher.keys).retire(1)
    assert not redis.exists("stream:output:s-1")
