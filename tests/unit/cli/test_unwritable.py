"""A disk that is full, or not ours to write, is one sentence and exit code 2, never a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.running import clean_environment
from workers.home import ROOT


def run(home: str, *words: str, output: str = "/dev/null") -> subprocess.CompletedProcess[str]:
    with Path(output).open("w") as stdout:
        return subprocess.run(
            [sys.executable, "-P", "-m", "workers.cli", *words],
            env={**clean_environment(), "FLEET_HOME": home, "PYTHONPATH": f"{ROOT}:{ROOT}/client"},
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )


def test_an_output_that_is_full(tmp_path: Path) -> None:
    done = run(str(tmp_path), "status", output="/dev/full")
    said = "fleet: cannot write (No space left on device): make room for the output and in FLEET_HOME.\n"
    assert (done.returncode, done.stderr) == (2, said)


@pytest.mark.parametrize("words", [["up"], ["up", "--detach"]])
def test_a_home_that_cannot_be_written(words: list[str]) -> None:
    done = run("/sys/fleet", *words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("fleet: cannot write to /sys/fleet")
