"""Redis restarted, refusing, emptied, and all its connections killed, under load (rows P-10, P-11, B-13).

Beat, RedBeat's schedule and the runs of schedules after the loss of all of Redis: ``tests/acceptance/test_beat.py``.
The channel alone, with longer faults: ``tests/integration/broker/test_server_faults.py``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.chaos.kills import Load, OfFleet, resume, settle
from tests.support import RunningFleet, eventually
from tests.support.crowd import hold, wait_for_workers
from tests.support.private import private_fleets

RESUME = 30.0
"""Seconds until work goes on after a fault; 2 s are usual."""

REFUSED = 20
"""Commands that the server refuses during a fault, at least."""


@pytest.fixture(scope="module")
def fleet() -> Iterator[RunningFleet]:
    with private_fleets() as make:
        yield make(sessions=1, relay=0)


def kill_server(fleet: RunningFleet) -> None:
    fleet.servers.valkey.kill()
    fleet.servers.valkey.start()


def restart_full_server(fleet: RunningFleet) -> None:
    """So full that it answers LOADING for a moment."""
    script = "for n = 1, 200000 do redis.call('SET', 'ballast:' .. n, string.rep('x', 100)) end"
    fleet.cache.eval(script, 0)
    fleet.servers.valkey.restart()
    fleet.cache.eval("for n = 1, 200000 do redis.call('UNLINK', 'ballast:' .. n) end", 0)


def meet(fleet: RunningFleet, error: str) -> None:
    """The fault lasts until so many have met it, by the server's count: at ten messages a second two seconds."""

    def met() -> int:
        return int(fleet.broker.info("errorstats").get(f"errorstat_{error}", {}).get("count", 0))

    before = met()
    eventually(lambda: met() >= before + REFUSED)


def refuse_writes(fleet: RunningFleet) -> None:
    fleet.broker.replicaof("127.0.0.1", 1)
    meet(fleet, "READONLY")
    fleet.broker.replicaof("NO", "ONE")


def be_full(fleet: RunningFleet) -> None:
    fleet.broker.config_set("maxmemory", 1)
    meet(fleet, "OOM")
    fleet.broker.config_set("maxmemory", 0)


def forget_scripts(fleet: RunningFleet) -> None:
    fleet.broker.script_flush()


def kill_connections(fleet: RunningFleet) -> None:
    for _ in range(5):
        fleet.broker.client_kill_filter(_type="normal", skipme=True)
        time.sleep(1)


FAULTS: list[Callable[[RunningFleet], None]] = [
    kill_server, refuse_writes, be_full, kill_connections, forget_scripts, restart_full_server, kill_server
]  # fmt: skip


def test_faults_of_redis_cost_no_message(fleet: RunningFleet) -> None:
    """Restarts, LOADING, READONLY, OOM, CLIENT KILL each second: no process ends, work goes on soon, what was
    accepted has its effect once [T5, T9, T10]."""
    target = OfFleet(fleet)
    load = Load(target.url, target.task, target.queue, rate=10)
    load.start()
    resumed = {}
    try:
        for fault in FAULTS:
            fault(fleet)
            resumed[fault.__name__] = resume(target, load)
    finally:
        load.stop()
    outcome = settle(target, load, len(FAULTS))
    assert outcome.sent > 50
    assert (outcome.lost, outcome.doubled) == ([], [])
    assert max(resumed.values()) < RESUME, resumed
    assert all(process.running for process in fleet.processes)


def test_an_emptied_redis_costs_what_was_queued_only(fleet: RunningFleet) -> None:
    """FLUSHALL with one operation running and one queued: the first has its effect, the caller of the second gets
    no answer and repeats it with its key [T8]."""
    session_id = str(fleet.call("session.create", status="active")["id"])

    def append(content: str) -> object:
        return fleet.client.submit(
            "session.append_output", session_id=session_id, content=content, idempotency_key=content
        )

    with fleet.engine.begin() as db:
        hold(db, session_id)
        append("running\n")
        wait_for_workers(fleet, 1)
        append("queued\n")
        eventually(lambda: fleet.broker.llen("sessions\x06\x166"))
        fleet.broker.flushall()
    for content in ("running\n", "queued\n"):
        fleet.call(
            "session.append_output", session_id=session_id, content=content, idempotency_key=content, timeout=60
        )
    events = fleet.call("session.get_events", session_id=session_id, types=["output.received"])["items"]
    assert len(events) == 2
    assert all(process.running for process in fleet.processes)
