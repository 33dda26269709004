"""The ``fleet`` command against a fleet under test."""

from __future__ import annotations

import atexit
import json
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.running import RunningFleet, clean_environment
from workers.home import ROOT


def command(fleet: RunningFleet, *words: str) -> dict[str, Any]:
    """What :mod:`subprocess` needs to run it as ``./fleet`` does, from another folder."""
    return {
        "args": [sys.executable, "-P", "-m", "workers.cli", *words],
        "env": {**fleet.env, "PYTHONPATH": f"{ROOT}:{ROOT}/client", "FLEET_HOME": str(fleet.home)},
        "cwd": "/",
        "text": True,
    }


@cache
def _preloaded() -> subprocess.Popen[str]:
    """Runs commands for all of this pytest process; ends when its stdin does."""
    words = [sys.executable, "-P", "-m", "tests.support.preloaded"]
    environ = {**clean_environment(), "PYTHONPATH": f"{ROOT}:{ROOT}/client"}
    process = subprocess.Popen(
        words, cwd="/", env=environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )

    def end() -> None:
        process.communicate()

    atexit.register(end)
    return process


def run(fleet: RunningFleet, *words: str, stdin: str = "", timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Runs it to its end, in a process of its own that had its imports done (:mod:`tests.support.preloaded`)."""
    return run_in(command(fleet, *words)["env"], *words, stdin=stdin, timeout=timeout)


def run_in(
    env: Mapping[str, str], *words: str, stdin: str = "", timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """The same in an environment, which says where the fleet is."""
    process, args = _preloaded(), ["fleet", *words]
    assert process.stdin is not None
    assert process.stdout is not None
    with tempfile.TemporaryDirectory() as name:
        files = {file: Path(name) / file for file in ("stdin", "stdout", "stderr")}
        for file in files.values():
            file.write_text("")
        files["stdin"].write_text(stdin)
        wanted = {"words": words, "env": dict(env), "cwd": "/", **{k: str(v) for k, v in files.items()}}
        process.stdin.write(json.dumps(wanted) + "\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], timeout)[0]:
            process.kill()
            _preloaded.cache_clear()
            raise subprocess.TimeoutExpired(args, timeout, files["stdout"].read_text(), files["stderr"].read_text())
        code = int(process.stdout.readline())
        return subprocess.CompletedProcess(args, code, files["stdout"].read_text(), files["stderr"].read_text())


def answer(done: subprocess.CompletedProcess[str]) -> Any:
    """The JSON on its stdout; it must have gone well and said nothing else."""
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)
