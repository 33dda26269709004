"""Workers that are killed, stopped and frozen under load: nothing is lost, no effect is doubled (rows P-11, B-13).

Killed children, segmentation faults, exits, MemoryError and the kernel's kill for memory [T2, T3, T4]:
``tests/acceptance/test_dead_letters.py`` and ``test_redelivery.py``. 50 kills with a control:
``python -m tests.chaos.kills``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from broker import names
from tests.chaos.kills import OfFleet, fleet_target, kill, run
from tests.support import RunningFleet, eventually
from tests.support.crowd import hold, wait_for_workers
from workers.processes import ManagedProcess


@pytest.fixture(scope="module")
def target() -> Iterator[OfFleet]:
    with fleet_target() as target:
        yield target


def stop(worker: ManagedProcess) -> None:
    """A warm stop, within the grace of the fleet."""
    worker.kill(signal.SIGTERM)
    worker.wait(30)


def stop_in_vain(worker: ManagedProcess) -> None:
    """SIGTERM, and SIGKILL before it can have its effect."""
    worker.kill(signal.SIGTERM)
    kill(worker)


def test_killed_and_stopped_workers_lose_nothing(target: OfFleet) -> None:
    """Seven kills and a stop of idle and busy workers under a steady load of raw messages [T1, T21].

    A message waits 10 s for the end of its worker to be noticed, some wait for two workers.
    """
    outcome = run(target, [kill, kill, stop_in_vain, kill, stop, kill, stop_in_vain, kill], rate=30)
    assert outcome.sent > 100
    assert outcome.lost == []
    assert outcome.doubled == []
    assert outcome.slowest is not None
    assert outcome.slowest < 100


def holder(fleet: RunningFleet) -> int:
    """The process id of the worker that holds the only message there is."""
    [consumer] = [key for key in fleet.broker.scan_iter(names.owned("*")) if fleet.broker.scard(key)]
    return int(consumer.removeprefix(names.owned("")).split(":")[1])


def test_a_frozen_worker_finds_its_work_done(target: OfFleet) -> None:
    """Frozen in the middle of a transaction until another has run its message: when it goes on, its own run is
    void, and the effect is there once [T20]."""
    fleet = target.fleet
    for _ in range(2 - len(fleet.of("sessions"))):
        fleet.start("sessions")
    session_id = str(fleet.call("session.create", status="active", timeout=60)["id"])
    eventually(lambda: not fleet.broker.hlen("unacked"))
    with fleet.engine.begin() as db:
        hold(db, session_id)
        handle = fleet.client.submit("session.append_output", session_id=session_id, content="once\n")
        wait_for_workers(fleet, 1)
        frozen = holder(fleet)
        os.kill(frozen, signal.SIGSTOP)
    try:
        answer = handle.result(120)
    finally:
        os.kill(frozen, signal.SIGCONT)
    assert answer["chunk_no"] == 1
    [log] = [process.log_text for process in fleet.of("sessions") if process.pid == frozen]
    eventually(lambda: handle.task_id in log(), 60)
    eventually(lambda: not fleet.broker.hlen("unacked"))
    events = fleet.call("session.get_events", session_id=session_id, timeout=60)["items"]
    assert [event["event_name"] for event in events] == ["session.created", "session.started", "output.received"]
