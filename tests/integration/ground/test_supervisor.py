"""The supervisor keeps its processes running and leaves none behind."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.support import eventually
from workers.home import ROOT, Home
from workers.processes import Identity
from workers.supervisor import Line, Scale, Supervisor, sweep
from workers.supervisor.supervisor import STEADY_AFTER, process_environment

IGNORES_SIGTERM = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1); time.sleep(600)"
STUBBORN = shlex.join([sys.executable, "-c", IGNORES_SIGTERM])
PARENT = "sh -c 'sleep 600 & sleep 600 & wait'"

ENDS = "sh -c 'trap \"sleep {work}; date +%s%N; exit\" TERM; echo up; while :; do sleep 0.1; done'"
"""Says when it has ended, so many seconds after it was told to."""

SUPERVISE = """
import os, sys, time
from pathlib import Path
from workers.home import Home
from workers.supervisor import Line, Scale, Supervisor
lines = {"web": Line("web", sys.argv[2])}
supervisor = Supervisor(Home(Path(sys.argv[1])), lines, Scale(), os.environ)
supervisor.start()
print("started", flush=True)
time.sleep(600)
"""


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[..., Supervisor]]:
    made: list[Supervisor] = []

    def make(scale: Scale | None = None, **lines: str) -> Supervisor:
        supervisor = Supervisor(
            Home(tmp_path), {name: Line(name, text) for name, text in lines.items()}, scale or Scale(), os.environ
        )
        made.append(supervisor)
        supervisor.start()
        return supervisor

    yield make
    for supervisor in made:
        supervisor.stop(0)


def members(pid: int) -> list[psutil.Process]:
    return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]


def lives(process: psutil.Process) -> bool:
    """Whether it has not ended; one that is still to be reaped has."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_killed_process_is_started_again_and_counted(supervise: Callable[..., Supervisor], tmp_path: Path) -> None:
    supervisor = supervise(Scale({"web": 2}), web="sleep 600", release="false")
    assert [one.process.name for one in supervisor.all] == ["web.1", "web.2"]
    victim = supervisor.all[0]
    pid = victim.process.pid
    os.kill(pid, signal.SIGKILL)

    def is_back() -> bool:
        supervisor.check()
        return victim.state == "running" and victim.process.pid != pid

    eventually(is_back)
    assert victim.restarts == 1
    assert victim.last_exit == -signal.SIGKILL
    assert supervisor.all[1].restarts == 0
    recorded = Home(tmp_path).state.section("processes")["web.1"]
    assert recorded["identity"]["pid"] == victim.process.pid
    assert recorded["restarts"] == 1


def test_one_that_cannot_run_is_tried_less_and_less_often(supervise: Callable[..., Supervisor]) -> None:
    supervisor = supervise(web="sh -c 'exit 3'")
    one = supervisor.all[0]
    pauses = []
    for _ in range(7):
        eventually(lambda: not one.process.running)
        supervisor.check()
        pauses.append(one.pause)
        one.due = 0
        supervisor.check()
    assert pauses == [0.5, 1, 2, 4, 8, 10, 10]
    assert one.last_exit == 3
    eventually(lambda: not one.process.running)
    one.process.started_at -= STEADY_AFTER
    supervisor.check()
    assert one.pause == 0.5, "it ran for a while"


def test_a_dead_process_leaves_no_children(supervise: Callable[..., Supervisor]) -> None:
    supervisor = supervise(web=PARENT)
    pid = supervisor.all[0].process.pid
    family = eventually(lambda: found if len(found := members(pid)) == 3 else None)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: supervisor.check() or not any(map(lives, family[1:])))


def test_stop_kills_what_does_not_listen(supervise: Callable[..., Supervisor]) -> None:
    supervisor = supervise(polite="sleep 600", stubborn=STUBBORN, relay="sleep 600")
    eventually(lambda: "1" in supervisor.all[1].process.log_text())
    assert supervisor.stop(0.5) == ["stubborn.1"]
    assert [one.last_exit for one in supervisor.all] == [-15, -9, -15]
    assert not any(one.process.running for one in supervisor.all)


def test_the_relay_is_stopped_when_the_others_have_ended(supervise: Callable[..., Supervisor]) -> None:
    """What they commit while they end still goes out."""
    supervisor = supervise(relay=ENDS.format(work=0), web=ENDS.format(work=0.5))
    relay, web = (one.process for one in supervisor.all)
    eventually(lambda: "up" in relay.log_text() and "up" in web.log_text())
    assert supervisor.stop(60) == []
    assert int(web.log_text().split()[-1]) < int(relay.log_text().split()[-1])


def test_nothing_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", SUPERVISE, str(tmp_path), PARENT],
        cwd=ROOT,
        env=process_environment(os.environ),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert starter.stdout is not None
    assert starter.stdout.readline() == "started\n"
    home = Home(tmp_path)
    leader = Identity.from_json(home.state.section("processes")["web.1"]["identity"])
    assert leader is not None
    family = eventually(lambda: found if len(found := members(leader.pid)) == 3 else None)
    starter.send_signal(signal.SIGKILL)
    starter.communicate()

    eventually(lambda: not leader.alive())
    assert sweep(home) == ["web.1"], "its children did not listen"
    assert not any(map(lives, family))


def test_the_sweep_ends_recorded_processes_only(tmp_path: Path) -> None:
    home = Home(tmp_path)
    left, other = (subprocess.Popen(["sleep", "600"], start_new_session=True) for _ in range(2))
    with home.state.change("processes") as section:
        ours = Identity.of(left.pid)
        assert ours is not None
        section["web.1"] = {"identity": ours.to_json()}
        section["web.2"] = {"identity": {"pid": other.pid, "mark": "of another process with this number"}}
    assert sweep(home) == ["web.1"]
    assert left.wait() == -signal.SIGTERM
    assert other.poll() is None
    assert home.state.section("processes") == {}
    other.kill()
    other.wait()


def test_a_log_that_grew_is_moved_aside_under_its_writer(supervise: Callable[..., Supervisor]) -> None:
    supervisor = supervise(web="sh -c 'while echo line; do sleep 0.05; done'")
    process = supervisor.all[0].process
    eventually(lambda: process.log_text().count("line") >= 3)
    assert not process.trim_log(keep=1_000_000)
    assert process.trim_log(keep=5)
    eventually(lambda: process.log_text().startswith("line\n"))
    assert process.log.with_name("web.1.log.1").read_text().startswith("line\nline\nline\n")
