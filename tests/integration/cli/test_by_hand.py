"""``./fleet call``, ``tail`` and ``demo`` as a person uses them: real commands on a real fleet."""

from __future__ import annotations

import json
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from tests.conftest import PrivateFleet
from tests.support import RunningFleet, eventually
from tests.support.command_line import answer, command
from tests.support.command_line import run as run_command

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(fleet: RunningFleet) -> Run:
    return partial(run_command, fleet)


def test_an_answer_is_json_on_stdout(run: Run, fleet: RunningFleet) -> None:
    text = json.dumps({"context": {"working_directory": "/projekt/ü"}})
    made = answer(run("call", "session.create", "agent_id=a1", "session_type=development", "--json", text))
    assert (made["agent_id"], made["session_type"]) == ("a1", "development")
    assert made["context"] == {"working_directory": "/projekt/ü"}
    assert fleet.call("session.get", session_id=made["id"])["agent_id"] == "a1"
    answer(run("call", "session.start", f"session_id={made['id']}", "process_id=42", "--priority", "high"))
    output = answer(run("call", "session.append_output", f"session_id={made['id']}", "content=@-", stdin="a\nb\n"))
    assert output["output_lines"] == 2


def test_a_typed_error_is_json_on_stderr(run: Run) -> None:
    for words, code in (
        (["session.get", "session_id=nobody"], "SESSION_NOT_FOUND"),
        (["session.creat"], "UNKNOWN_OPERATION"),
        (["session.get"], "VALIDATION_FAILED"),
        (["session.create", "timeout_seconds=soon"], "VALIDATION_FAILED"),
        (["session.create", "--timeout", "0"], "TIMEOUT"),
    ):
        done = run("call", *words)
        assert done.returncode == 1
        assert done.stdout == ""
        assert json.loads(done.stderr)["code"] == code


def test_a_refusal_names_what_was_typed(run: Run, fleet: RunningFleet) -> None:
    done = run("call", "session.create", "priority=urgent")
    assert json.loads(done.stderr)["message"].startswith("priority: "), "an argument of the operation, no option"
    session_id = fleet.call("session.create")["id"]
    for words in ([session_id, "--after", "99"], ["--after", "noon"]):
        done = run("tail", *words)
        assert json.loads(done.stderr)["message"].startswith("--after: "), done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["call"],
        ["call", "session.create", "agent_id"],
        ["call", "session.create", "context={"],
        ["call", "session.create", "--json", "[]"],
        ["call", "session.create", "--priority", "urgent"],
        ["call", "session.count", "--timeout", "-1"],
        ["call", "session.count", "--timeout", "nan"],
        ["call", "session.create", "--deadline", "inf"],
        ["tail", "s", "--after", "x"],
        ["tail", "--timeout", "-1"],
        ["logs", "--lines", "-1"],
        ["demo", "now"],
        ["bench", "--rounds", "0"],
        ["bench", "--seconds", "nan"],
        ["bench", "--soak", "-1"],
        ["bench", "--kills", "-1"],
        ["chaos", "--minutes", "nan"],
        ["chaos", "--minutes", "0"],
    ],
)
def test_wrong_use_is_exit_code_two(run: Run, words: list[str]) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Usage:")


def test_no_fleet_is_one_sentence(fleet: RunningFleet, tmp_path: Path) -> None:
    for words in (["call", "session.count"], ["tail"], ["demo"]):
        prepared = command(fleet, *words)
        prepared["env"] = {k: v for k, v in prepared["env"].items() if not k.startswith("FLEET_")}
        prepared["env"]["FLEET_HOME"] = str(tmp_path)
        done = subprocess.run(**prepared, capture_output=True, timeout=60, check=False)
        assert done.returncode == 2
        assert re.fullmatch(r"fleet: no fleet runs here: .*\./fleet up.*\.\n", done.stderr)


def test_a_fleet_that_does_not_answer(fleet: RunningFleet) -> None:
    prepared = command(fleet, "call", "session.count")
    prepared["env"] |= {"FLEET_REDIS_URL": "redis://127.0.0.1:1/0", "FLEET_SUBMIT_TIMEOUT": "1"}
    done = subprocess.run(**prepared, capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert json.loads(done.stderr)["code"] == "UNAVAILABLE"


def test_tail_of_a_session_ends_with_it(run: Run, fleet: RunningFleet) -> None:
    external_id = f"tail-{uuid4()}"
    fleet.call("session.create", external_id=external_id)
    fleet.call("session.terminate", session_id=external_id, reason="done here")
    *lines, live, end = run("tail", external_id, "--after", "0").stdout.splitlines()
    assert [line.split()[1:3] for line in lines] == [["#1", "session.created"], ["#2", "session.terminated"]]
    assert "reason=done here" in lines[1]
    assert (live, end) == ("-- live from here --", "-- end: terminated --")
    assert "\x1b" not in lines[0], "plain when it is no terminal"
    [last] = run("tail", external_id, "--after", "1", "--json").stdout.splitlines()
    assert json.loads(last)["event_name"] == "session.terminated"
    assert run("tail", external_id).stdout == "-- end: terminated --\n"
    missing = run("tail", "nobody")
    assert (missing.returncode, json.loads(missing.stderr)["code"]) == (1, "SESSION_NOT_FOUND")


def test_tail_of_all_sessions_shows_them_live(fleet: RunningFleet) -> None:
    words = ["tail", "--json", "--timeout", "20", "--type", "session.paused"]
    with subprocess.Popen(**command(fleet, *words), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        paused = []

        def pause_one() -> bool:
            session_id = fleet.call("session.create", status="active")["id"]
            fleet.call("session.pause", session_id=session_id)
            paused.append(session_id)
            return bool(select.select([process.stdout], [], [], 0.2)[0])

        eventually(pause_one)
        found = json.loads(process.stdout.readline())
        assert found["session_id"] in paused
        assert found["stream_id"]
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_the_demo_shows_a_whole_life(private_fleet: PrivateFleet) -> None:
    fleet = private_fleet(sessions=1, maintenance=1, relay=1, beat=1)
    done = subprocess.run(**command(fleet, "demo"), capture_output=True, timeout=150, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "MISSING" not in done.stdout
    assert "Every expected event was seen" in done.stdout
    assert "\x1b" not in done.stdout
    assert done.stderr == ""
    assert fleet.call("session.count")["total"] == 0, "it leaves nothing behind"
    assert fleet.call("schedule.list")["items"] == []


WITHOUT_DUTIES = """
from workers.cli import demo, stage
stage.EVENT_WITHIN = 1.0
demo.Play.duty = lambda *_: None
demo.demo()
"""


def test_a_demo_that_misses_an_event_fails(private_fleet: PrivateFleet) -> None:
    fleet = private_fleet()
    prepared = command(fleet, "demo")
    prepared["args"] = [sys.executable, "-P", "-c", WITHOUT_DUTIES]
    done = subprocess.run(**prepared, capture_output=True, timeout=100, check=False)
    assert done.returncode == 1
    assert "session.timeout_warning" in done.stderr
    assert fleet.call("session.count")["total"] == 0
