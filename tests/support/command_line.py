"""The ``fleet`` command against a fleet under test."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from tests.support.running import RunningFleet
from workers.home import ROOT


def command(fleet: RunningFleet, *words: str) -> dict[str, Any]:
    """What :mod:`subprocess` needs to run it as ``./fleet`` does, from another folder."""
    return {
        "args": [sys.executable, "-P", "-m", "workers.cli", *words],
        "env": {**fleet.env, "PYTHONPATH": f"{ROOT}:{ROOT}/client", "FLEET_HOME": str(fleet.home)},
        "cwd": "/",
        "text": True,
    }


def run(fleet: RunningFleet, *words: str, stdin: str = "", timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Runs it to its end."""
    return subprocess.run(**command(fleet, *words), input=stdin, capture_output=True, timeout=timeout, check=False)


def answer(done: subprocess.CompletedProcess[str]) -> Any:
    """The JSON on its stdout; it must have gone well and said nothing else."""
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)
