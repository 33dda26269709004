"""``./fleet schedule next|preview|simulate|explain|backfill`` as a person uses them (H-04, H-18)."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from tests.support import RunningFleet
from tests.support.command_line import answer, command
from tests.support.command_line import run as run_command
from tests.support.scheduling import create, dispatch, ledger, waiting
from tests.support.scheduling import run as execute
from workers.cli.schedule_text import months
from workers.home import ROOT

Run = Callable[..., "subprocess.CompletedProcess[str]"]

DAILY = ["--cron", "30 2 * * *", "--timezone", "Europe/Berlin"]


@pytest.fixture
def run(fleet: RunningFleet) -> Run:
    return partial(run_command, fleet)


@pytest.fixture
def hourly(fleet: RunningFleet) -> str:
    """A schedule whose slots are the full hours of UTC; the next one is far ahead."""
    schedule = create(fleet, interval_minutes=60)
    slot = datetime(2099, 1, 1, tzinfo=UTC)
    statement = "UPDATE scheduled_reviews SET next_run = :slot WHERE schedule_id = :id"
    execute(fleet, statement, id=schedule["schedule_id"], slot=slot)
    return str(schedule["schedule_id"])


def text(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_the_next_slots_as_a_table_with_notes(run: Run) -> None:
    [heads, first, second] = text(
        run("schedule", "next", *DAILY, "--after", "2027-03-27T12:00", "-n", "2")
    ).splitlines()
    assert heads.split() == ["SLOT", "(UTC)", "LOCAL", "(Europe/Berlin)", "STARTS", "NOTE"]
    assert first.startswith("2027-03-28 01:30:00  Sun 2027-03-28 03:30:00")
    assert "on time" in first
    assert first.endswith("the clock jumps over it")
    assert second.startswith("2027-03-29 00:30:00")


def test_a_preview_is_a_calendar_or_a_list(run: Run) -> None:
    words = ["--cron", "0 9,17 * * MON-FRI", "--year", "2027"]
    shown = text(run("schedule", "preview", *words))
    assert shown.count("Mo") == 12
    [week] = [line for line in shown.splitlines() if line.startswith(" 4x2")][:1]
    assert week.split() == ["4x2", "5x2", "6x2", "7x2", "8x2", "9", "10"]
    assert "522 fires in UTC, 2027-01-01 00:00Z to 2028-01-01 00:00Z" in shown
    listed = text(run("schedule", "preview", *words, "--list", "-n", "3")).splitlines()
    assert (len(listed), listed[-1]) == (5, "(there are more: raise --limit)")
    assert answer(run("schedule", "preview", *words, "--json"))["total"] == 522


def test_days_on_which_everything_is_skipped_are_marked(run: Run) -> None:
    define = '{"schedule_type": "daily", "hour": 9, "blackouts": ["2027-12-24/2027-12-26"]}'
    shown = text(run("schedule", "preview", "--define", define, "--from", "2027-12-01", "--to", "2028-01-01"))
    assert "24- 25- 26-" in " ".join(shown.split())
    assert "would be skipped: 3 blackout" in shown


def test_a_month_looks_like_that_of_cal() -> None:
    days = {"2027-02-01": {"runs": 1, "skipped": 0}, "2027-02-28": {"runs": 0, "skipped": 2}}
    found: dict[str, Any] = {"days": days, "runs": 1, "skipped": {"window": 2}, "timezone": "UTC", "enabled": False}
    shown = months({**found, "start": "2027-02-01T00:00:00+00:00", "end": "2027-03-01T00:00:00+00:00"})
    assert shown.splitlines()[:6] == [
        "          February 2027",
        "Mo   Tu   We   Th   Fr   Sa   Su",
        " 1x1  2    3    4    5    6    7",
        " 8    9   10   11   12   13   14",
        "15   16   17   18   19   20   21",
        "22   23   24   25   26   27   28-",
    ]
    assert shown.endswith("The schedule is paused: none of them will run.")


def test_a_simulated_year_by_month_is_the_year_in_one(run: Run, hourly: str) -> None:
    by_month = answer(run("schedule", "simulate", hourly, "--year", "2027", "--show", "all", "-n", "9000", "--json"))
    at_once = run("schedule", "simulate", hourly, "--year", "2027", "--show", "all", "-n", "9000", "--json",
                  "--down", "2026-01-01..2026-01-02")  # fmt: skip
    assert by_month == answer(at_once)
    assert by_month["runs"] == 8760


def test_a_simulation_says_what_a_downtime_does(run: Run) -> None:
    down = ["--down", "2027-03-01T10:00..2027-03-01T10:30"]
    shown = text(run("schedule", "simulate", "--cron", "*/5 * * * *", "--year", "2027", *down, "-n", "2"))
    lines = shown.splitlines()
    assert lines[0].split() == ["MONTH", "RUN", "SKIPPED"]
    assert lines[3].split() == ["2027-03", "8922", "6"]
    assert lines[13].split() == ["all", "105114", "6", "5", "misfire,", "1", "coalesced"]
    assert lines[-3].startswith("2027-03-01 10:00:00")
    assert lines[-3].endswith("skipped: misfire")
    assert lines[-1] == "(there are more: raise --limit)"


def test_explain_says_a_sentence(run: Run, hourly: str) -> None:
    assert text(run("schedule", "explain", hourly)).startswith("No slot of this schedule has come yet")
    told = text(run("schedule", "explain", hourly, "--at", "2020-05-05T12:34:56"))
    assert "is not a slot of this schedule" in told
    assert "before it 2020-05-05 12:00:00 UTC and after it 2020-05-05 13:00:00 UTC" in told
    assert answer(run("schedule", "explain", hourly, "--at", "2020-05-05T12:00Z", "--json"))["verdict"] == (
        "before_creation"
    )


def test_a_backfill_is_dry_unless_told_to_run(run: Run, fleet: RunningFleet, hourly: str) -> None:
    words = ["schedule", "backfill", hourly, "--from", "2026-03-01", "--to", "2026-03-01T04:00"]
    dry = text(run(*words))
    assert "4 of 4 slots would be queued" in dry
    assert "Nothing is written; add --run to queue them." in dry
    assert "4 of 4 slots queued" in text(run(*words, "--run"))
    assert "0 of 4 slots queued; left out: 4 backfill" in text(run(*words, "--run"))
    dispatch(fleet)
    schedule = {"schedule_id": hourly}
    waiting(lambda: [slot.status for slot in ledger(fleet, schedule)] == ["success"] * 4, timeout=60)
    assert "ran on time" in text(run("schedule", "explain", hourly, "--at", "2026-03-01T02:00"))


def test_a_long_backfill_goes_in_pieces(run: Run, hourly: str) -> None:
    words = ["schedule", "backfill", hourly, "--from", "2024-01-01T12:00", "--to", "2024-04-01", "--json"]
    found = answer(run(*words))
    assert (found["found"], found["added"]) == (24 * 91 - 12, 24 * 91 - 12)
    slots = [slot["nominal_utc"] for slot in found["items"]]
    assert slots == sorted(set(slots))


def test_a_backfill_goes_in_pieces_within_a_day_too(run: Run, fleet: RunningFleet, hourly: str) -> None:
    fleet.call("schedule.update", schedule_id=hourly, interval_minutes=1)
    words = ["schedule", "backfill", hourly, "--from", "2026-03-01T12:00", "--to", "2026-03-03T20:00", "--json"]
    found = answer(run(*words))
    assert (found["found"], found["added"]) == (56 * 60, 56 * 60)
    slots = [slot["nominal_utc"] for slot in found["items"]]
    assert slots == sorted(set(slots))


@pytest.mark.parametrize(
    "words",
    [
        ["next"],
        ["next", "schedule_1", "--cron", "* * * * *"],
        ["next", "schedule_1", "--timezone", "UTC"],
        ["preview", "--define", "[]"],
        ["simulate", "--cron", "* * * * *", "--down", "yesterday"],
        ["explain", "schedule_1", "--at", "noon"],
        ["backfill", "schedule_1"],
    ],
)
def test_wrong_use_is_exit_code_two(run: Run, words: list[str]) -> None:
    done = run("schedule", *words)
    assert (done.returncode, done.stdout) == (2, "")


DAYS = ["--from", "2026-03-02", "--to", "2026-03-01"]


@pytest.mark.parametrize(
    ("words", "begin"),
    [
        (["preview", "--define", '{"schedule_type": "interval", "interval_seconds": 5}'], "--to: the range has more"),
        (["preview", "SCHEDULE_ID", *DAYS], "--to: is not after the begin of the range"),
        (["backfill", "SCHEDULE_ID", *DAYS], "--to: is not after the begin of the range"),
        (["preview", "SCHEDULE_ID", "--year", "2027", "--to", "2027-02-01"], "--year: give either a year or a range"),
        (["next", "--cron", "every day"], "--cron: "),
        (["next", "--cron", "* * * * *", "--timezone", "Moon"], "--timezone: "),
        (["next", "--define", '{"schedule_type": "daily", "timezone": "Moon"}'], "--define timezone: "),
        (["simulate", "SCHEDULE_ID", "--year", "2027", "--down", "2027-02-02..2027-02-01"], "--down: "),
    ],
)
def test_a_refusal_names_the_option(run: Run, hourly: str, words: list[str], begin: str) -> None:
    done = run("schedule", *(hourly if word == "SCHEDULE_ID" else word for word in words))
    assert (done.returncode, done.stdout) == (1, "")
    assert json.loads(done.stderr)["message"].startswith(begin), done.stderr


PAGE = (ROOT / "docs" / "schedule-views.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^\$ \./fleet (schedule .*)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("line", EXAMPLES)
def test_the_examples_of_the_page_work(run: Run, hourly: str, line: str) -> None:
    assert text(run(*shlex.split(line.replace("SCHEDULE_ID", hourly))))


def test_a_terminal_sees_a_progress_bar(fleet: RunningFleet) -> None:
    reader, writer = pty.openpty()
    words = command(fleet, "schedule", "simulate", "--cron", "0 9 * * *", "--year", "2027")
    done = subprocess.run(**words, stdout=subprocess.PIPE, stderr=writer, timeout=60, check=False)
    os.close(writer)
    shown = os.read(reader, 65536).decode()
    os.close(reader)
    assert "simulating" in shown
    assert "100%" in shown
    assert "all      365" in done.stdout
