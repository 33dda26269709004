"""Beat killed, doubled, cut off and robbed of its data, with real processes (AT-H3, AT-H4, AT-H5, row H-20).

Beat is supervised as in ``./fleet up``. Its lock lives 4 s here and is looked at each second, in place
of 30 and 5, so that a hand-over takes seconds. Whatever is done to it, each schedule's ledger must hold
every slot once.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import psutil
import pytest
import redis
from sqlalchemy import text

from schedules.entries import ENTRIES
from tests.support import RunningFleet, eventually
from tests.support.private import private_fleets
from tests.support.scheduling import create, get, ledger
from workers.home import Home
from workers.settings import Settings
from workers.supervisor import Scale, Supervised, Supervisor, read_procfile

LOCK, LOOP = 4, 1
LOST = "redis.exceptions.LockNotOwnedError"
AT_MOST = 25
"""Seconds a hand-over may take on a busy machine: less than the 30 of a lock with default settings."""


@pytest.fixture(scope="module")
def fleet() -> Iterator[RunningFleet]:
    """Workers without beat; each test starts its own."""
    with private_fleets() as make:
        yield make(
            maintenance=1,
            relay=0,
            FLEET_REDBEAT_LOCK_TIMEOUT=str(LOCK),
            FLEET_BEAT_MAX_LOOP_INTERVAL=str(LOOP),
        )


class Beats:
    """Beats that are started again when they end, as long as somebody waits for something."""

    def __init__(self, fleet: RunningFleet, count: int) -> None:
        lines = {"beat": read_procfile()["beat"]}
        self.fleet = fleet
        self.supervisor = Supervisor(Home(fleet.home), lines, Scale({"beat": count}), fleet.env)
        self.supervisor.start()

    @property
    def all(self) -> list[Supervised]:
        return self.supervisor.all

    def until(self, predicate: Callable[[], Any]) -> None:
        def check() -> Any:
            self.supervisor.check()
            return predicate()

        eventually(check, every=0.1)

    def tick(self, *after: dict[str, Any]) -> None:
        """Waits until slots are settled that were not when this was called."""
        seen = [len(ledger(self.fleet, one)) for one in after]
        self.until(lambda: all(len(ledger(self.fleet, one)) >= n + 3 for one, n in zip(after, seen, strict=True)))

    def leader(self) -> Supervised:
        """The one that holds the lock."""
        [leading] = [one for one in self.all if "Acquired lock" in one.process.log_text()]
        return leading

    def missing(self, server: redis.Redis) -> Callable[[], bool]:
        """Waits until each has a connection to ``server``; what this returns says whether each has met since that it
        is away. Who gets no answer closes its connection, and the kernel knows when."""
        known: list[set[int]] = []

        def connected() -> bool:
            known[:] = [_ports(one.process.pid) & _clients(server) for one in self.all]
            return all(known)

        self.until(connected)
        return lambda: all(ports - _ports(one.process.pid) for ports, one in zip(known, self.all, strict=True))


def _ports(pid: int | None) -> set[int]:
    """The ports of a process's own ends of its connections."""
    try:
        return {socket.laddr.port for socket in psutil.Process(pid).net_connections("tcp")} if pid else set()
    except psutil.NoSuchProcess:
        return set()


def _clients(server: redis.Redis) -> set[int]:
    """The ports of those who use the same database as ``server``."""
    number = str(server.connection_pool.connection_kwargs["db"])
    return {int(one["addr"].rpartition(":")[2]) for one in server.client_list() if one["db"] == number}


@pytest.fixture
def beats(fleet: RunningFleet) -> Iterator[Callable[[int], Beats]]:
    made: list[Beats] = []

    def start(count: int) -> Beats:
        made.append(Beats(fleet, count))
        return made[-1]

    yield start
    for one in made:
        one.supervisor.stop(5)


@pytest.fixture
def schedule(fleet: RunningFleet) -> Iterator[dict[str, Any]]:
    """Fires every second."""
    created = create(fleet, interval_seconds=1)
    yield created
    fleet.call("schedule.delete", schedule_id=created["schedule_id"])


@pytest.fixture
def beat_redis(fleet: RunningFleet) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(fleet.settings.beat_url, decode_responses=True) as client:
        yield client


def complete(fleet: RunningFleet, schedule: dict[str, Any], period: int = 1) -> int:
    """Every slot from the first to the next one is on the ledger once, run or with its reason; how many."""
    rows = ledger(fleet, schedule)
    found = get(fleet, schedule)
    step = timedelta(seconds=period)
    nominal = [row.nominal_utc for row in rows]
    start = nominal[0]
    assert nominal == [start + n * step for n in range(len(rows))]
    assert start.isoformat() == schedule["next_run"]
    assert found["next_run"] >= (nominal[-1] + step).isoformat()
    for row in rows:
        assert row.status in ("queued", "running", "success") or row.reason in ("coalesced", "misfire", "overlap"), (
            row
        )
    return len(rows)


def test_a_killed_beat_is_started_again_and_no_slot_is_lost_or_doubled(
    fleet: RunningFleet, beats: Callable[[int], Beats], schedule: dict[str, Any]
) -> None:
    supervised = beats(1)
    supervised.tick(schedule)
    supervised.all[0].process.kill()
    supervised.tick(schedule)
    assert supervised.all[0].restarts == 1
    assert complete(fleet, schedule) > LOCK


def test_a_second_beat_takes_over_from_a_killed_one(
    fleet: RunningFleet, beats: Callable[[int], Beats], schedule: dict[str, Any]
) -> None:
    supervised = beats(2)
    supervised.tick(schedule)
    leader = supervised.leader()
    standby = next(one for one in supervised.all if one is not leader)
    eventually(lambda: "beat: Starting" in standby.process.log_text())
    leader.process.kill()
    killed = time.monotonic()
    # Unwatched, so that the killed one is not there again as another candidate.
    eventually(lambda: "Acquired lock" in standby.process.log_text())
    assert time.monotonic() - killed < AT_MOST
    supervised.tick(schedule)
    complete(fleet, schedule)


def test_with_the_default_settings_a_second_beat_has_taken_over_after_35_seconds() -> None:
    settings = Settings.load({})
    assert settings.redbeat_lock_timeout + settings.beat_max_loop_interval <= 35


def test_ticks_go_on_after_redis_was_away(
    fleet: RunningFleet, beats: Callable[[int], Beats], schedule: dict[str, Any], beat_redis: redis.Redis
) -> None:
    """Restarted, then frozen for longer than one waits for its answers: a beat that stands by waits on, one that
    holds the lock ends only where it ran out meanwhile."""
    valkey = fleet.servers.valkey
    assert valkey is not None
    supervised = beats(2)
    supervised.tick(schedule)
    for away, back in ((valkey.stop, valkey.start), (valkey.pause, valkey.resume)):
        missing = supervised.missing(beat_redis)
        away()
        try:
            eventually(missing, 30)
        finally:
            back()
        supervised.tick(schedule)
    complete(fleet, schedule)
    logs = "".join(one.process.log_text(everything=True) for one in supervised.all)
    assert set(re.findall(r"beat raised exception <class '([\w.]+)'>", logs)) <= {LOST}


@pytest.mark.parametrize("waits", [False, True], ids=["at once", "while it waits"])
def test_a_beat_that_is_told_to_end_does_not_wait_for_redis(
    fleet: RunningFleet,
    beats: Callable[[int], Beats],
    schedule: dict[str, Any],
    beat_redis: redis.Redis,
    waits: bool,
) -> None:
    """As when a whole fleet ends because its supervisor was killed. Its lock is left to run out."""
    valkey = fleet.servers.valkey
    assert valkey is not None
    supervised = beats(1)
    supervised.tick(schedule)
    process = supervised.leader().process
    missing = supervised.missing(beat_redis)
    valkey.stop()
    try:
        if waits:
            eventually(missing, 30)
        assert process.stop(15)  # a minute or two, if it waited
    finally:
        valkey.start()
    assert process.returncode == 0
    assert "the lock is left to run out" in process.log_text()
    supervised.tick(schedule)
    complete(fleet, schedule)


def test_schedules_run_on_as_stored_after_beat_workers_and_all_of_redis_are_gone(
    fleet: RunningFleet, beats: Callable[[int], Beats], schedule: dict[str, Any], beat_redis: redis.Redis
) -> None:
    others = [create(fleet, owner_id=f"kept-{n}", interval_seconds=n, metadata={"n": n}) for n in (1, 2)]
    supervised = beats(1)
    supervised.tick(schedule)
    before = [get(fleet, one) for one in others]
    workers = [*fleet.of("sessions"), *fleet.of("maintenance")]
    for process in (*workers, supervised.all[0].process):
        process.kill_group()
    beat_redis.flushall()
    for process in workers:
        fleet.restart(process)
    supervised.tick(schedule, *others)
    moving = {"next_run", "next_run_local", "last_run", "last_status", "run_count"}
    for was, now in zip(before, [get(fleet, one) for one in others], strict=True):
        assert {k: v for k, v in now.items() if k not in moving} == {k: v for k, v in was.items() if k not in moving}
    assert {"redbeat:" + entry.name for entry in ENTRIES} == set(beat_redis.zrange("redbeat::schedule", 0, -1))
    complete(fleet, schedule)
    for one in others:
        complete(fleet, one, one["interval_seconds"])
        fleet.call("schedule.delete", schedule_id=one["schedule_id"])


def test_redbeat_holds_the_fixed_entries_and_nothing_of_the_users(
    fleet: RunningFleet, beats: Callable[[int], Beats], schedule: dict[str, Any], beat_redis: redis.Redis
) -> None:
    names = {entry.name for entry in ENTRIES}
    beat_redis.sadd("redbeat::statics", "of_an_older_release")
    supervised = beats(1)
    supervised.tick(schedule)
    assert set(beat_redis.smembers("redbeat::statics")) == names
    assert set(beat_redis.scan_iter("redbeat:*")) == {
        *(f"redbeat:{name}" for name in names),
        "redbeat::schedule",
        "redbeat::statics",
        "redbeat::lock",
    }
    assert schedule["schedule_id"] not in str([beat_redis.hgetall(f"redbeat:{name}") for name in names])


def test_a_run_finds_its_way_through_every_duty(fleet: RunningFleet) -> None:
    """What beat sent meanwhile has been worked off: no run waits for ever, none is left behind."""

    def over() -> bool:
        with fleet.engine.connect() as db:
            waiting = "SELECT count(*) FROM schedule_executions WHERE status IN ('queued', 'running')"
            return db.execute(text(waiting)).scalar_one() == 0

    def dispatched() -> bool:
        fleet.call("schedule.dispatch_due")
        return over()

    eventually(dispatched, 60, every=1)
