"""What a run of ``fleet test`` says of tests that failed: the reason last, where only a tail is kept."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support.telling import FAILURES, LINES, WIDTH
from workers.cli.test import TOLD, _tell
from workers.home import ROOT

FAILING = """
from types import SimpleNamespace

from tests.support.running import OPEN

LOG = "\\n".join(f"log line {n}" for n in range(100))
OPEN.append(SimpleNamespace(processes=[SimpleNamespace(name="sessions.1", log_text=lambda: LOG)]))


def test_of_a_process():
    print("printed by the process")
    assert 4 == 6, "\\n".join(f"said {n} " + "x" * 300 for n in range(50))


def test_that_passes():
    pass
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], dict[str, list[str]]]:
    """The output and the noted reasons of a run of its own."""
    folder = tmp_path_factory.mktemp("told")
    (folder / "test_it.py").write_text(FAILING)
    options = ["-p", "tests.conftest", "-p", "no:xdist", "--import-mode=importlib", "--rootdir", str(folder)]
    environ = {"PATH": "", "PYTHONPATH": f"{ROOT}:{ROOT}/client"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", "/dev/null", *options, str(folder)],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stdout.splitlines(), json.loads((folder / ".pytest_cache" / "v" / FAILURES).read_text())


def test_what_a_test_printed_stands_behind_the_logs(run: tuple[list[str], dict[str, list[str]]]) -> None:
    output, _ = run
    assert "log line 74" not in output
    assert output.index("log line 75") < output.index("log line 99") < output.index("printed by the process")


def test_a_reason_is_the_place_and_the_two_ends_of_the_message(run: tuple[list[str], dict[str, list[str]]]) -> None:
    _, noted = run
    [(name, reason)] = noted.items()
    assert name == "test_it.py::test_of_a_process"
    assert len(reason) == LINES
    assert reason[0].endswith("x...")
    assert "test_it.py:12: AssertionError: said 0 x" in reason[0]
    assert max(map(len, reason)) <= WIDTH + 3
    assert reason[4] == "..."
    assert reason[-2].strip().startswith("said 49 x")
    assert reason[-1].strip() == "assert 4 == 6"


@pytest.mark.parametrize(("tests", "again"), [(1, 0), (1, 1), (3, 3), (40, 0)])
def test_the_reasons_fit_into_the_tail(capsys: pytest.CaptureFixture[str], tests: int, again: int) -> None:
    reasons = {f"test_{n}": [f"at {n}", *["said"] * 20, "assert False"] for n in range(tests)}
    _tell(reasons, dict(list(reasons.items())[:again]))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) <= max(TOLD, 4 * tests)
    assert sum(line.strip() == "assert False" for line in lines) == tests + again
    assert lines[:2] == ["fleet: failed: test_0", "    at 0"]
