"""The relay and its processes: leading, standing by, dying, waiting for servers (row D-08)."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import text

from fanout.hints import Hints
from fanout.keys import Keys
from fanout.publish import Publisher
from sessions import leadership, outbox
from tests.integration.fanout.conftest import MakeFleet
from tests.support.outbox import (
    Listener,
    LocalWorker,
    everything_arrives,
    horizon_passes,
    in_order,
    stored_events,
)
from tests.support.running import RunningFleet
from tests.support.waiting import eventually
from workers.processes import ManagedProcess
from workers.relay_loop import Relay

TAKEOVER = 5.0
"""Seconds (D-08)."""

SLACK = 10.0
"""For a machine that is busy with other things."""


@contextmanager
def local_worker(fleet: RunningFleet) -> Iterator[LocalWorker]:
    worker = LocalWorker(fleet)
    try:
        yield worker
    finally:
        worker.close()


class Writer:
    """Writes events of a few sessions until told to stop; a failed write is tried again."""

    def __init__(self, worker: LocalWorker, pause: float = 0.02) -> None:
        self._worker = worker
        self._pause = pause
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self.failures = 0

    def __enter__(self) -> Writer:
        self._sessions = [self._worker.create() for _ in range(5)]
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _write(self) -> None:
        number = 0
        while not self._done.wait(self._pause):
            number += 1
            try:
                self._worker.emit(self._sessions[number % 5], number=number)
            except Exception:  # noqa: BLE001 - PostgreSQL is away
                self.failures += 1
                self._done.wait(0.05)


def leader(fleet: RunningFleet) -> int | None:
    """The pid of the leading relay."""
    with fleet.engine.connect() as db:
        found = text("SELECT holder FROM leader_leases WHERE name = 'relay' AND expires_at > clock_timestamp()")
        holder = db.execute(found).scalar()
    return None if holder is None else int(holder.split(":")[1])


def two_relays(fleet: RunningFleet) -> tuple[ManagedProcess, ManagedProcess]:
    """The leader and the stand-by."""
    first, second = fleet.start("relay"), fleet.start("relay")
    pid = eventually(lambda: leader(fleet))
    return (first, second) if first.pid == pid else (second, first)


def test_events_arrive_soon_after_the_commit(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    fleet.start("relay")
    eventually(lambda: leader(fleet))
    with local_worker(fleet) as worker, Listener(fleet.cache, "events:session") as listener:
        session_id = worker.create()
        eventually(lambda: len(listener.messages) == 1)
        delays = []
        for number in range(2, 42):
            worker.emit(session_id)
            committed = time.monotonic()
            eventually(lambda number=number: len(listener.messages) == number, every=0.001)
            delays.append(time.monotonic() - committed)
    assert sorted(delays)[20] < 0.25  # without the hint it would be half a second


def test_a_stopped_relay_hands_over_at_once(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    leading, standing_by = two_relays(fleet)
    with local_worker(fleet) as worker, Writer(worker):
        eventually(lambda: fleet.cache.xlen("stream:events") > 20)
        leading.kill(signal.SIGTERM)
        assert leading.wait(60) == 0
        assert leader(fleet) in (None, standing_by.pid), "it gave the lease back"
        eventually(lambda: leader(fleet) == standing_by.pid)
    everything_arrives(fleet)


def test_a_stopped_relay_has_saved_how_far_it_came(worker: LocalWorker, fanout_fleet: RunningFleet) -> None:
    """Told to stop the moment its first event is in the Stream, in this process; its successor repeats nothing."""

    class Stop(threading.Event):
        def is_set(self) -> bool:
            return fanout_fleet.cache.xlen("stream:events") > 0

    session_id = worker.create()
    horizon_passes(fanout_fleet)
    client = worker.runtime.cache.client
    Relay(worker.runtime.engine, Publisher(client, Keys()), Hints(client), holder="test").run(Stop())
    with fanout_fleet.engine.connect() as db:
        [event] = db.execute(text("SELECT id FROM session_events WHERE session_id = :id"), {"id": session_id}).all()
        assert outbox.load_cursor(db).last_id == event.id
        assert leadership.holder(db, outbox.NAME) is None


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_stand_by_takes_over_from_a_dead_or_frozen_leader(make_fleet: MakeFleet, how: signal.Signals) -> None:
    fleet = make_fleet()
    leading, standing_by = two_relays(fleet)
    with local_worker(fleet) as worker, Listener(fleet.cache, "events:session") as listener:
        with Writer(worker):
            eventually(lambda: len(listener.messages) > 20)
            leading.kill(how)
            started = time.monotonic()
            eventually(lambda: leader(fleet) == standing_by.pid, every=0.05)
            assert time.monotonic() - started < TAKEOVER + SLACK
            heard = len(listener.messages)
            eventually(lambda: len(listener.messages) > heard + 20)
            if how == signal.SIGSTOP:
                leading.kill(signal.SIGCONT)
                heard = len(listener.messages)
                eventually(lambda: len(listener.messages) > heard + 100)
                assert leader(fleet) == standing_by.pid
        envelopes = everything_arrives(fleet)
        eventually(lambda: len(listener.messages) == len(envelopes))
        in_order([envelope for _, envelope in listener.messages])


def test_postgresql_restarts_and_the_relay_goes_on(private_relay: RunningFleet) -> None:
    fleet, postgres = private_relay, private_relay.servers.postgres
    assert postgres is not None
    [relay] = fleet.of("relay")
    with local_worker(fleet) as worker, Writer(worker) as writer:
        for mode in ("immediate", "fast"):
            before = fleet.cache.xlen("stream:events")
            eventually(lambda before=before: fleet.cache.xlen("stream:events") > before + 20)
            postgres.stop(mode=mode)
            eventually(lambda: writer.failures)
            postgres.start()
            writer.failures = 0
    everything_arrives(fleet)
    assert relay.running


def test_redis_freezes_restarts_and_is_emptied(private_relay: RunningFleet) -> None:
    """Every event goes out once and in order; what is flushed away is gone from the Streams only."""
    fleet, valkey = private_relay, private_relay.servers.valkey
    assert valkey is not None
    [relay] = fleet.of("relay")
    with local_worker(fleet) as worker, Writer(worker):
        for trouble in ("freeze", "kill", "stop", "flush", "kill"):
            before = stored_events(fleet)
            eventually(lambda before=before: stored_events(fleet) > before + 20)
            if trouble == "freeze":
                valkey.process.kill(signal.SIGSTOP)  # type: ignore[union-attr]
                eventually(lambda before=before: stored_events(fleet) > before + 100)
                valkey.process.kill(signal.SIGCONT)  # type: ignore[union-attr]
            elif trouble == "flush":
                eventually(lambda: pending(fleet) == 0)
                fleet.cache.flushall()
            else:
                valkey.process.kill(signal.SIGKILL if trouble == "kill" else signal.SIGTERM)  # type: ignore[union-attr]
                valkey.process.wait(10)  # type: ignore[union-attr]
                valkey.start()
    eventually(lambda: pending(fleet) == 0)
    entries = fleet.cache.xrange("stream:events")
    assert len({fields["event_id"] for _, fields in entries}) == len(entries)
    newest: dict[str, int] = {}
    for _, fields in entries:
        session_id, seq = fields["session_id"], int(fields["seq"])
        assert newest.setdefault(session_id, seq - 1) == seq - 1
        newest[session_id] = seq
    with fleet.engine.connect() as db:
        stored = db.execute(text("SELECT session_id::text, max(seq) FROM session_events GROUP BY 1")).all()
    assert newest == {row[0]: row[1] for row in stored}
    assert relay.running


def pending(fleet: RunningFleet) -> int:
    from sessions import outbox

    with fleet.engine.connect() as db:
        return outbox.pending(db, outbox.load_cursor(db))


def test_wrong_settings_are_one_sentence(make_fleet: MakeFleet) -> None:
    fleet = make_fleet()
    relay = fleet.start("relay", wait=False, FLEET_CHANNEL_PREFIXES="x")
    assert relay.wait(60) == 2
    assert relay.log_text().count("\n") == 1
    relay = fleet.start("relay", wait=False, FLEET_DATABASE_URL="postgresql://127.0.0.1:1/none")
    assert relay.wait(60) == 2
    assert "FLEET_DATABASE_URL" in relay.log_text()
    assert "Traceback" not in relay.log_text()


@pytest.fixture
def private_relay() -> Iterator[RunningFleet]:
    """One relay on servers that nobody else uses."""
    from tests.support.servers import embedded_servers

    servers = embedded_servers()
    fleet = RunningFleet(servers)
    fleet.start("relay")
    yield fleet
    fleet.close(gently=False)
    servers.close()
