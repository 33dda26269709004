"""One leader's way through the outbox, step by step, in this process (rows D-08, D-09, D-12)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import Connection, text

from fanout.connection import PATIENT, connect
from fanout.keys import Keys
from fanout.publish import Publisher, PublishOutage
from sessionfleet.messages.events import EmitEvent
from sessions import leadership, outbox
from sessions.emission import emit_event
from sessions.outbox import Leader
from tasks import outbox_drain
from tasks.outbox_drain import Drain, NoLongerLeader, outgoing
from tasks.unit_of_work import transaction
from tests.support.outbox import (
    Listener,
    LocalWorker,
    drained,
    everything_arrives,
    horizon_passes,
    in_order,
    streamed,
)
from tests.support.running import RunningFleet
from tests.support.waiting import eventually

NewDrain = Callable[[], Drain]


@pytest.fixture
def db(fanout_fleet: RunningFleet) -> Iterator[Connection]:
    with fanout_fleet.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        yield connection


@pytest.fixture
def publisher(fanout_fleet: RunningFleet) -> Iterator[Publisher]:
    client = connect(fanout_fleet.settings.cache_url, name="test", timeout=PATIENT)
    yield Publisher(client, Keys())
    client.close()


@pytest.fixture
def new_drain(db: Connection, publisher: Publisher) -> NewDrain:
    """A new leader each time, as after a crash of the one before."""

    def make() -> Drain:
        db.execute(text("UPDATE leader_leases SET expires_at = '-infinity'"))
        epoch = leadership.take(db, outbox.NAME, "test", 60)
        assert epoch is not None
        drain = Drain(db, publisher, Leader("test", epoch))
        drain.begin()
        return drain

    return make


def test_everything_once_in_order(worker: LocalWorker, new_drain: NewDrain, fanout_fleet: RunningFleet) -> None:
    sessions = [worker.create(agent_id=f"a{number}") for number in range(3)]
    for number in range(9):
        worker.emit(sessions[number % 3], number=number)
    worker.call("session.terminate", session_id=sessions[0])
    drain = new_drain()
    assert drained(drain).published == 13
    step = drain.step()
    assert (step.published, step.more, step.waiting) == (0, False, False)
    [created, *_] = everything_arrives(fanout_fleet)
    assert created["event_type"] == "session.created"
    assert created["payload"]["agent_id"] == "a0"
    assert created["message_id"] == f"{sessions[0]}-session.created-1"
    entries: Any = fanout_fleet.cache.xrange("stream:events", count=1)
    assert created["stream_id"] == entries[0][0]


def test_events_behind_an_open_transaction_wait(worker: LocalWorker, new_drain: NewDrain) -> None:
    slow, quick = worker.create(), worker.create()
    drain = new_drain()
    assert drained(drain).published == 2
    with transaction(worker.runtime) as work:
        work.apply([slow], emit_event, EmitEvent(session_id=slow, type="test"))
        worker.emit(quick)
        step = drain.step()
        assert (step.published, step.waiting) == (0, True)
    assert drained(drain).published == 2


def test_a_crash_between_publishing_and_saving_repeats_nothing(
    worker: LocalWorker, new_drain: NewDrain, db: Connection, fanout_fleet: RunningFleet
) -> None:
    session_id = worker.create()
    drain = new_drain()
    with Listener(fanout_fleet.cache, "events:session") as listener:
        db.execute(text("UPDATE leader_leases SET epoch = epoch + 1"))
        horizon_passes(fanout_fleet)
        with pytest.raises(NoLongerLeader):
            drain.step()
            drain.save()
        worker.emit(session_id)
        done = drained(new_drain())
        assert (done.published, done.repeats) == (1, 1)
        eventually(lambda: len(listener.messages) == 2)
    assert [each["seq"] for each in listener.on("events:session")] == [1, 2]
    everything_arrives(fanout_fleet)


def test_the_cursor_is_saved_now_and_then(
    worker: LocalWorker, new_drain: NewDrain, db: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = worker.create()
    drain = new_drain()
    assert drained(drain).published == 1
    drain.step()
    assert drain.is_saved  # there was nothing to publish
    before = outbox.load_cursor(db)
    monkeypatch.setattr(outbox_drain, "SAVE_EVERY", 3600)
    worker.emit(session_id)
    eventually(lambda: drain.step().published == 1)
    assert outbox.load_cursor(db) == before
    monkeypatch.setattr(outbox_drain, "SAVE_EVERY", 0)
    worker.emit(session_id)
    eventually(lambda: drain.step().published == 1)
    assert outbox.load_cursor(db).last_id == before.last_id + 2


def test_what_must_not_go_to_the_channels_goes_to_the_streams(
    worker: LocalWorker, new_drain: NewDrain, fanout_fleet: RunningFleet
) -> None:
    session_id = worker.create()
    drain = new_drain()
    drained(drain)
    with Listener(fanout_fleet.cache, "*") as listener:
        worker.call("session.emit_event", session_id=session_id, type="quiet", publish=False)
        worker.call("session.emit_event", session_id=session_id, type="loud")
        drained(drain)
        eventually(lambda: len(listener.messages) == 2)
    assert {envelope["event_name"] for _, envelope in listener.messages} == {"loud"}
    assert [each["event_name"] for each in everything_arrives(fanout_fleet)][1:] == ["quiet", "loud"]


def test_an_event_refused_three_times_becomes_a_dead_letter(
    worker: LocalWorker, new_drain: NewDrain, db: Connection, fanout_fleet: RunningFleet
) -> None:
    good, bad = worker.create(), worker.create()
    drain = new_drain()
    drained(drain)
    redis = fanout_fleet.cache
    redis.delete(f"stream:session:{bad}")
    redis.set(f"stream:session:{bad}", "not a stream")
    worker.emit(good, number=1)
    worker.emit(bad, number=2)
    worker.emit(bad, number=3)
    worker.emit(good, number=4)
    horizon_passes(fanout_fleet)
    first = drain.step()
    assert (first.published, first.pause, first.buried) == (1, 1.0, 0)
    assert (drain.step().pause, drain.step().buried) == (2.0, 1)
    assert drain.step().buried == 1  # the second was counted along, nothing waits for it again
    assert drain.step().published == 1
    letters = db.execute(text("SELECT * FROM event_dead_letters ORDER BY id")).all()
    assert [letter.envelope["payload"] for letter in letters] == [{"number": 2}, {"number": 3}]
    assert letters[0].original_subject == f"session:{bad}"
    assert letters[0].failure_reason == f"WRONGTYPE stream:session:{bad} is a string, not a stream"
    assert (letters[0].deliveries, letters[0].envelope["retry_count"]) == (3, 3)
    assert str(letters[0].event_id) == letters[0].envelope["event_id"]
    assert [each["payload"].get("number") for each in streamed(fanout_fleet)][2:] == [1, 4]
    assert db.execute(text("SELECT count(*) FROM outbox_failures")).scalar() == 0


def test_what_was_read_ahead_is_forgotten_after_a_refusal(
    worker: LocalWorker, new_drain: NewDrain, db: Connection, fanout_fleet: RunningFleet
) -> None:
    """While one batch is published the next one is read. One that stops half-way, by a refusal or an outage, loses,
    repeats and overtakes nothing all the same."""
    good, bad = worker.create(), worker.create()
    redis = fanout_fleet.cache
    drain = new_drain()
    drained(drain)
    redis.delete(f"stream:session:{bad}")
    redis.set(f"stream:session:{bad}", "not a stream")
    count = 2 * outbox.MAX_BATCH + 100
    for first in range(0, count, 300):
        emits = [(good, number) for number in range(first, min(first + 300, count))]
        operations = [
            {"name": "session.emit_event", "arguments": {"session_id": id_, "type": "test", "payload": {"number": n}}}
            for id_, n in ([(bad, -1), *emits] if first == 300 else emits)
        ]
        assert worker.call("session.apply", operations=operations)["failed"] == 0
    horizon_passes(fanout_fleet)
    with read_only(redis), pytest.raises(PublishOutage):
        drain.step()
    steps = [drain.step() for _ in range(3)]
    assert [step.published for step in steps] == [300, 0, 0]
    assert [step.pause for step in steps] == [1.0, 2.0, 0.0]
    assert steps[-1].buried == 1
    assert drained(drain).published == count - 300
    heard = [each["payload"].get("number") for each in streamed(fanout_fleet)]
    assert heard[2:] == list(range(count))
    assert redis.xlen("stream:events") == 2 + count


def test_an_event_that_goes_through_at_last_tells_its_tries(
    worker: LocalWorker, new_drain: NewDrain, db: Connection, fanout_fleet: RunningFleet
) -> None:
    session_id = worker.create()
    fanout_fleet.cache.set(f"stream:session:{session_id}", "not a stream")
    drain = new_drain()
    horizon_passes(fanout_fleet)
    drain.step()
    drain.step()
    fanout_fleet.cache.delete(f"stream:session:{session_id}")
    assert drain.step().published == 1
    [envelope] = everything_arrives(fanout_fleet)
    assert envelope["retry_count"] == 2
    assert db.execute(text("SELECT count(*) FROM outbox_failures")).scalar() == 0


@contextmanager
def read_only(redis: Redis) -> Iterator[None]:
    redis.replicaof("127.0.0.1", "1")
    try:
        yield
    finally:
        redis.replicaof("NO", "ONE")


def test_an_outage_buries_nothing(
    worker: LocalWorker, new_drain: NewDrain, db: Connection, fanout_fleet: RunningFleet
) -> None:
    worker.create()
    drain = new_drain()
    horizon_passes(fanout_fleet)
    with read_only(fanout_fleet.cache):
        for _ in range(5):
            with pytest.raises(PublishOutage, match="ReadOnlyError"):
                drain.step()
    assert drain.step().published == 1
    [envelope] = everything_arrives(fanout_fleet)
    assert envelope["retry_count"] == 5
    assert db.execute(text("SELECT count(*) FROM event_dead_letters")).scalar() == 0
    assert db.execute(text("SELECT count(*) FROM outbox_failures")).scalar() == 0


def test_streams_of_another_database_end_their_generation(
    worker: LocalWorker, new_drain: NewDrain, db: Connection, fanout_fleet: RunningFleet
) -> None:
    session_id = worker.create()
    foreign: Any = {"envelope": "{}", "event_id": "of-another-past", "seq": 1}
    fanout_fleet.cache.xadd("stream:events", foreign, id="999999999999-1")
    fanout_fleet.cache.xadd(f"stream:session:{session_id}", foreign, id="999999999999-1")
    drain = new_drain()
    assert drained(drain).published == 1
    everything_arrives(fanout_fleet)
    assert outbox.load_cursor(db).generation == 2
    assert fanout_fleet.cache.xlen("stream:events:gen1") == 1
    assert fanout_fleet.cache.xlen(f"stream:session:{session_id}:gen1") == 1


def test_a_foreign_stream_that_appears_under_way_swallows_nothing(
    worker: LocalWorker, new_drain: NewDrain, fanout_fleet: RunningFleet
) -> None:
    session_id = worker.create()
    drain = new_drain()
    drained(drain)
    fanout_fleet.cache.xadd("stream:events", {"envelope": "{}", "event_id": "other", "seq": 1}, id="999999999999-1")
    worker.emit(session_id)
    drained(drain)
    assert [each["seq"] for each in streamed(fanout_fleet)] == [2]


def test_a_database_restored_from_a_dump_loses_and_repeats_nothing(
    worker: LocalWorker, new_drain: NewDrain, db: Connection, publisher: Publisher, fanout_fleet: RunningFleet
) -> None:
    """Transaction ids begin anew: stamps of the dump are far above those of what is written from now on."""
    sessions = [worker.create() for _ in range(3)]
    for number in range(12):
        worker.emit(sessions[number % 3], number=number)
    db.execute(text("UPDATE session_events SET xid = CAST(CAST(xid AS text)::bigint + 1000000 AS text)::xid8"))
    read = "SELECT *, xid::text AS stamp, 1000 AS max_events, 0 AS retry_count, NULL AS status FROM session_events"
    rows = db.execute(text(f"{read} ORDER BY xid, id")).all()
    published, left = rows[:10], rows[10:]
    publisher.publish([outgoing(Row(row)) for row in published])
    outbox.load_cursor(db)
    save = "UPDATE relay_cursors SET xid = CAST(:xid AS xid8), last_id = :id, high_id = :id, updated_at = now()"
    db.execute(text(save), {"xid": published[-1].stamp, "id": published[-1].id})
    for number in range(12, 18):
        worker.emit(sessions[number % 3], number=number)  # after the restore, before anybody noticed

    with Listener(fanout_fleet.cache, "events:session") as listener:
        drain = new_drain()
        drained(drain)
        for number in range(18, 24):
            worker.emit(sessions[number % 3], number=number)
        assert drained(drain).published == 6
        eventually(lambda: len(listener.messages) == len(left) + 12)
    drain.save()
    cursor = outbox.load_cursor(db)
    assert (cursor.generation, cursor.floor_id) == (2, 21)
    assert fanout_fleet.cache.xlen("stream:events:gen1") == 10
    everywhere = streamed(fanout_fleet, "stream:events:gen1") + streamed(fanout_fleet)
    in_order(everywhere)
    assert len(everywhere) == 27
    assert [each["event_id"] for _, each in listener.messages] == [
        each["event_id"] for each in streamed(fanout_fleet)
    ]
    again = new_drain()
    done = drained(again)
    assert (done.published, done.repeats) == (0, 0)
    assert outbox.load_cursor(db).generation == 2


class Row:
    """A row of session_events with its stamp as the outbox reads it."""

    def __init__(self, row: Any) -> None:
        self._row = row
        self.xid = row.stamp

    def __getattr__(self, name: str) -> Any:
        return getattr(self._row, name)
