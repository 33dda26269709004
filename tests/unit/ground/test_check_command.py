"""./fleet test: all steps run, the exit code tells, pytest has the last word when all is well."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from workers.home import ROOT
from workers.supervisor.supervisor import process_environment

RUN = """
import sys
from workers.cli import test
test.STEPS = {{"first": ["-c", {first!r}], "second": ["-c", "pass"]}}
test.test({arguments!r})
"""


def run(first: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RUN.format(first=first, arguments=[*arguments])],
        cwd=ROOT,
        env=process_environment(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def test_all_is_well() -> None:
    done = run("print('nobody needs this')", "--version")
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout
    assert [line.split(" (")[0] for line in lines[:2]] == ["fleet: first: ok", "fleet: second: ok"]
    assert lines[-1] == f"pytest {pytest.__version__}"


def test_a_failed_step_is_shown_and_fails_the_whole() -> None:
    done = run("print('line 7 is too long'); raise SystemExit(3)", "--version")
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert lines[0] == "line 7 is too long"
    assert lines[1].startswith("fleet: first: failed")
    assert lines[2].startswith("fleet: second: ok")
    assert f"pytest {pytest.__version__}" in lines
    assert lines[-1] == "fleet: static checks failed: first"


def test_help_is_its_own_and_runs_nothing() -> None:
    done = run("print('nobody needs this')", "--help")
    assert done.returncode == 0, done.stdout
    assert "Static checks, then pytest with ARGUMENTS" in done.stdout
    assert "fleet: first" not in done.stdout


def test_options_behind_two_dashes_are_for_pytest() -> None:
    done = run("pass", "--", "--version")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1] == f"pytest {pytest.__version__}"
