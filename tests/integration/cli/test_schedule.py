"""``./fleet schedule`` as a person uses it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from functools import partial
from uuid import uuid4

import pytest

from tests.support import RunningFleet, eventually
from tests.support.command_line import answer
from tests.support.command_line import run as run_command
from tests.support.scheduling import dispatch, rewind

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(fleet: RunningFleet) -> Run:
    return partial(run_command, fleet)


def text(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_schedule_s_life_by_hand(run: Run, fleet: RunningFleet) -> None:
    fleet.call("session.create", owner_id="by-hand", status="active")
    words = ["create", "--owner", "by-hand", "--every", "90m", "--timezone", "Europe/Berlin", "--max-retries", "1"]
    made = answer(run("schedule", *words, "--json"))
    assert (made["interval_minutes"], made["timezone"], made["max_retries"]) == (90, "Europe/Berlin", 1)
    schedule_id = made["schedule_id"]
    [heads, line] = text(run("schedule", "list", "--owner", "by-hand")).splitlines()
    assert heads.split()[:4] == ["SCHEDULE", "OWNER", "EVERY", "STATE"]
    assert line.split()[:6] == [schedule_id, "by-hand", "1", "h", "30", "min"]
    assert "no slot has come yet" in text(run("schedule", "history", schedule_id))
    ran = text(run("schedule", "trigger", schedule_id, "--wait"))
    assert "status      success" in ran
    assert "sessions    1: 1 active" in ran
    late = run("schedule", "trigger", schedule_id, "--wait", "--timeout", "0")
    assert late.returncode == 1, "nobody knows yet whether it succeeds"
    assert "status     queued" in late.stdout
    assert late.stderr == f"fleet: the run has not ended within 0 s: see ./fleet schedule history {schedule_id}\n"
    eventually(lambda: text(run("schedule", "history", schedule_id, "--status", "success")).count("on_demand") == 2)
    assert "paused: lunch" in text(run("schedule", "pause", schedule_id, "--note", "lunch"))
    rewind(fleet, made, 1)
    dispatch(fleet)
    assert "state     on" in text(run("schedule", "resume", schedule_id))
    [_, *slots] = text(run("schedule", "history", schedule_id)).splitlines()
    assert sorted((line.split()[2], line.split()[3]) for line in slots) == [
        ("on_demand", "success"),
        ("on_demand", "success"),
        ("scheduled", "skipped"),
    ]
    assert any(line.endswith("paused") for line in slots)
    assert "retries   1, the first after 5 min" in text(run("schedule", "show", schedule_id))
    assert text(run("schedule", "delete", schedule_id)) == f"{schedule_id} is deleted\n"
    words = ["create", "--owner", "by-hand", "--every", "1d", "--paused"]
    other = answer(run("schedule", *words, "--json"))["schedule_id"]
    assert answer(run("schedule", "delete", other, "--json")) == {"deleted": True, "schedule_id": other}
    done = run("schedule", "show", schedule_id)
    assert (done.returncode, json.loads(done.stderr)["code"]) == (1, "SCHEDULE_NOT_FOUND")
    assert text(run("schedule", "list", "--owner", "by-hand")) == "no schedules\n"


def test_accounts_of_an_owner_by_hand(run: Run) -> None:
    owner = f"accounts-{uuid4().hex[:8]}"
    assert "3 added" in text(run("schedule", "assign", owner, "a=10", "b", "c=85.5"))
    lines = text(run("schedule", "accounts", owner)).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["c", "85.5", "critical"],
        ["b", "unknown", "medium"],
        ["a", "10", "low"],
    ]
    assert "1 removed" in text(run("schedule", "assign", owner, "--remove", "b"))
    assert [one["account_id"] for one in answer(run("schedule", "accounts", owner, "--json"))["items"]] == ["c", "a"]


@pytest.mark.parametrize(
    "words",
    [
        ["create", "--owner", "o"],
        ["create", "--owner", "o", "--every", "often"],
        ["history"],
        ["unpause", "x"],
        ["trigger", "x", "--wait", "--timeout", "-1"],
        ["assign", "o"],
    ],
)
def test_wrong_use_is_exit_code_two(run: Run, words: list[str]) -> None:
    done = run("schedule", *words)
    assert (done.returncode, done.stdout) == (2, "")


def test_a_bad_schedule_is_a_typed_error(run: Run) -> None:
    done = run("schedule", "create", "--owner", "o", "--every", "1h", "--timezone", "Moon")
    assert done.returncode == 1
    assert json.loads(done.stderr)["details"]["field"] == "timezone"


@pytest.mark.parametrize(
    ("words", "begin"),
    [
        (["create", "--owner", "", "--every", "1h"], "--owner: "),
        (["create", "--owner", "o", "--every", "0s"], "--every interval_minutes: "),
        (["create", "--owner", "o", "--every", "1h", "--max-retries", "99"], "--max-retries: "),
        (["assign", "o", "a", "b=101"], "[ACCOUNT[=RISK]]... 1.risk_score: "),
        (["assign", "o", "--remove", "a", "--remove", ""], "--remove 1: "),
    ],
)
def test_a_refusal_names_what_was_typed(run: Run, words: list[str], begin: str) -> None:
    done = run("schedule", *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert json.loads(done.stderr)["message"].startswith(begin), done.stderr
