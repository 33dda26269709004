"""./fleet up, status, env, logs, down on a machine with nothing set up: what a first user does."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from sessionfleet import Fleet
from tests.support import eventually
from tests.support.command_line import run_in
from tests.support.running import clean_environment
from tests.support.servers import new_home
from workers.embedded import EmbeddedPostgres
from workers.home import ROOT, Home


class Cli:
    """The command line in a home of its own, as the launcher starts it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        rooms = os.pathsep.join([str(ROOT), str(ROOT / "client")])
        self.env = {**clean_environment(), "FLEET_HOME": str(home), "PYTHONPATH": rooms}
        self.env["FLEET_SCALE"] = "sessions=1"

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "workers.cli", *arguments],
            cwd="/",
            env={**self.env, **env},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The same in a process that had its imports done, for what is asked over and over."""
        return run_in(self.env, *arguments, timeout=180)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ask("status", "--json").stdout)
        return found

    def environment(self) -> dict[str, str]:
        lines = self.ask("env").stdout.splitlines()
        return dict(shlex.split(line.removeprefix("export "))[0].split("=", 1) for line in lines)

    def processes(self) -> list[list[str]]:
        """Everything on this machine that belongs to this home, by its command; what has ended, does not."""
        found = []
        for process in psutil.process_iter():
            try:
                command = process.cmdline()
                ours = process.environ().get("FLEET_HOME") == str(self.home)
                ours = ours or any(str(self.home) in word for word in command)
                if ours and process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid():
                    found.append(command)
            except psutil.Error:
                continue
        return found

    def nothing_is_left(self) -> bool:
        """AssertionError with what is."""
        assert self.processes() == []
        return True


@pytest.fixture
def cli() -> Iterator[Cli]:
    home = new_home()
    cli = Cli(home)
    yield cli
    if cli.processes():  # of a test that failed, or that never stops its fleet
        cli.run("down")
    EmbeddedPostgres(home).remove()
    shutil.rmtree(home)


def test_from_nothing_to_work_and_back(cli: Cli) -> None:
    up = cli.run("up", "--detach")
    assert up.returncode == 0, up.stderr
    assert "a session was created and deleted" in up.stderr
    for word in ("database", "flower", "logs", "./fleet demo"):
        assert word in up.stderr
    assert up.stdout == ""

    status = cli.status()
    assert status["phase"] == "ready"
    assert {one["name"] for one in status["processes"]} == {
        "sessions.1", "maintenance.1", "beat.1", "relay.1", "flower.1",
    }  # fmt: skip
    assert {one["state"] for one in status["processes"]} == {"running"}, status
    assert all(one["embedded"] and one["state"] == "running" for one in status["servers"])
    assert eventually(lambda: len(cli.status()["workers"]) == 2, every=0.2)

    env = cli.environment()
    assert requests.get(f"{env['FLEET_FLOWER_URL']}/api/workers", timeout=60).status_code == 200
    with Fleet.connect(env["FLEET_REDIS_URL"]) as fleet:
        session_id = fleet.call("session.create", agent_id="a1", session_type="development")["id"]

    again = cli.run("up", "--detach")
    assert again.returncode == 0
    assert "already running" in again.stderr
    assert "sessions@" in cli.run("logs", "sessions.1", "-n", "100").stdout.replace("sessions.1@", "sessions@")
    assert cli.run("logs", "nobody").returncode == 1

    down = cli.run("down")
    assert down.returncode == 0, down.stderr
    eventually(cli.nothing_is_left, every=0.2)
    assert not cli.status()["running"]
    assert cli.run("status").returncode == 1
    assert cli.run("env").returncode == 1
    assert "not running" in cli.run("down").stderr

    # A shell that still has the exports of the first run means the same, embedded, fleet.
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "workers.cli", "up"], env={**cli.env, **env}, stderr=subprocess.PIPE, text=True
    ) as here:
        assert here.stderr is not None
        assert any("Stop it with" in line for line in here.stderr)
        assert cli.environment() == env
        with Fleet.connect(env["FLEET_REDIS_URL"]) as fleet:
            assert fleet.call("session.get", session_id=session_id)["agent_id"] == "a1"

        here.send_signal(signal.SIGINT)
        rest = here.communicate(timeout=90)[1]
    assert here.returncode == 0, rest
    assert "stopped" in rest
    assert "Traceback" not in rest
    eventually(cli.nothing_is_left, every=0.2)


def test_two_that_start_it_at_once_both_return_when_it_works(cli: Cli) -> None:
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "workers.cli", "up", "--detach"], env=cli.env, stderr=subprocess.PIPE, text=True
    ) as first:
        assert first.stderr is not None
        assert "ready on port" in first.stderr.readline()
        second = cli.run("up", "--detach")
        assert cli.status()["phase"] == "ready"
        assert (second.returncode, second.stderr.count("\n")) == (0, 1)
        assert "already running" in second.stderr
        first.communicate(timeout=60)
    assert first.returncode == 0


def test_a_fleet_that_nobody_hears_any_more_stops_cleanly(cli: Cli) -> None:
    """As ``./fleet up 2>&1 | head -3``."""
    words = [sys.executable, "-P", "-m", "workers.cli", "up"]
    with subprocess.Popen(words, env=cli.env, stderr=subprocess.PIPE, text=True) as up:
        assert up.stderr is not None
        assert any(line.startswith("fleet: starting ") for line in up.stderr)
        up.stderr.close()
        up.wait(90)
    eventually(cli.nothing_is_left, every=0.2)
    assert Home(cli.home).state.section("fleet")["phase"] == "stopped"
    assert Home(cli.home).state.section("postgres")["process"] is None, "it was stopped, not left to its tether"


def test_ctrl_c_while_it_starts_detached_leaves_nothing(cli: Cli) -> None:
    words = [sys.executable, "-P", "-m", "workers.cli", "up", "--detach"]
    with subprocess.Popen(words, env=cli.env, stderr=subprocess.PIPE, text=True) as up:
        assert up.stderr is not None
        assert "ready on port" in up.stderr.readline()
        up.send_signal(signal.SIGINT)
        said = up.communicate(timeout=90)[1]
    assert (up.returncode, said.strip()[-8:]) == (1, "Aborted!")
    assert not cli.status()["running"]
    eventually(cli.nothing_is_left, every=0.2)


def test_a_killed_worker_a_killed_server_and_a_killed_supervisor(cli: Cli) -> None:
    assert cli.run("up", "--detach").returncode == 0
    before = {one["name"]: one["pid"] for one in cli.status()["processes"]}
    os.kill(before["sessions.1"], signal.SIGKILL)

    def restarted() -> bool:
        one = next(one for one in cli.status()["processes"] if one["name"] == "sessions.1")
        return one["restarts"] == 1 and one["state"] == "running" and one["pid"] != before["sessions.1"]

    eventually(restarted, every=0.2)

    os.kill(next(one["pid"] for one in cli.status()["servers"] if one["name"] == "redis"), signal.SIGKILL)
    eventually(lambda: [one["restarts"] for one in cli.status()["servers"]] == [0, 1], every=0.2)
    with Fleet.connect(cli.environment()["FLEET_REDIS_URL"]) as fleet:
        assert fleet.call("session.count", 30)["total"] == 0

    os.kill(cli.status()["supervisor"], signal.SIGKILL)
    eventually(cli.nothing_is_left, every=0.2)
    assert not cli.status()["running"]
    assert "not running" in cli.run("down").stderr


def test_a_state_that_cannot_be_written_ends_no_fleet(cli: Cli) -> None:
    """As on a disk that is full for a while: processes are restarted, told of when there is room, and all stops."""
    assert cli.run("up", "--detach").returncode == 0
    before = cli.status()
    pids = {one["name"]: one["pid"] for one in before["processes"]}
    supervisor = psutil.Process(before["supervisor"])
    in_the_way = cli.home / f"state.{supervisor.pid}.draft"

    in_the_way.mkdir()
    running = {one.pid for one in supervisor.children()}
    os.kill(pids["sessions.1"], signal.SIGKILL)
    eventually(lambda: {one.pid for one in supervisor.children()} - running, every=0.2)
    with Fleet.connect(cli.environment()["FLEET_REDIS_URL"]) as fleet:
        assert fleet.call("session.count", 60)["total"] == 0

    in_the_way.rmdir()

    def told() -> bool:
        one = next(one for one in cli.status()["processes"] if one["name"] == "sessions.1")
        return (one["state"], one["restarts"]) == ("running", 1) and one["pid"] != pids["sessions.1"]

    eventually(told, every=0.2)
    in_the_way.mkdir()
    down = cli.run("down")
    assert down.returncode == 0, down.stderr
    eventually(cli.nothing_is_left, every=0.2)
    assert (cli.home / "logs" / "fleet.log").read_text().endswith("fleet: stopped\n")
    in_the_way.rmdir()


def test_a_port_set_for_flower_that_is_taken_is_one_sentence(cli: Cli) -> None:
    """Not a fleet that is ready, with the address of somebody else's server and a Flower that never starts."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = cli.run("up", "--detach", FLEET_FLOWER_PORT=port)
        assert done.returncode == 2, done.stderr
        assert done.stderr.startswith(f"fleet: FLEET_FLOWER_PORT is {port}, on which Flower cannot listen")
        assert done.stderr.endswith("set another, or remove it, and a free one is chosen.\n")
        assert cli.processes() == []


def test_flower_moves_when_its_port_is_taken_while_the_fleet_starts(cli: Cli) -> None:
    """Two fleets that start at once may choose the same port: each says where its own Flower is."""
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "workers.cli", "up"], env=cli.env, stderr=subprocess.PIPE, text=True
    ) as here:
        try:
            assert here.stderr is not None
            assert any(line.startswith("fleet: starting ") for line in here.stderr)
            port = Home(cli.home).state.section("flower")["port"]
            with socket.create_server(("127.0.0.1", port)):
                said = list(takewhile(lambda line: "Stop it with" not in line, here.stderr))
                url = cli.environment()["FLEET_FLOWER_URL"]
                assert not url.endswith(f":{port}")
                assert url.rpartition(":")[2] in "".join(line for line in said if line.startswith("  flower "))
                assert requests.get(f"{url}/api/workers", timeout=60).status_code == 200
        finally:
            here.send_signal(signal.SIGINT)
            rest = here.communicate(timeout=90)[1]
    assert here.returncode == 0, rest


@pytest.mark.parametrize(
    ("arguments", "env", "beginning"),
    [
        (["up"], {"FLEET_POOL_SIZE": "0"}, "FLEET_POOL_SIZE is 0 but must be"),
        (["up"], {"FLEET_SCALE": "web=1"}, "FLEET_SCALE has 'web=1' but must be"),
        (["up"], {"FLEET_DATABASE_URL": "postgresql://fleet:hidden@127.0.0.1:1/x"}, "FLEET_DATABASE_URL leads to"),
        (["up", "--detach"], {"FLEET_REDIS_URL": "redis://:hidden@127.0.0.1:1/0"}, "FLEET_REDIS_URL leads to"),
    ],
)
def test_what_it_cannot_start_with_is_one_sentence(
    cli: Cli, arguments: list[str], env: dict[str, str], beginning: str
) -> None:
    done = cli.run(*arguments, **env, FLEET_REDIS_RETRIES="1", FLEET_REDIS_RETRY_DELAY_MS="1")
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"fleet: {beginning}"), done.stderr
    assert last.endswith(".")
    assert "Traceback" not in done.stderr
    assert "hidden" not in done.stderr
    assert cli.processes() == []
