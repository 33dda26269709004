"""Dispatchers killed in mid-tick beside two beats (AT-H4); ``python -m tests.chaos.ticks`` kills a hundred."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.running import clean_environment

ROOT = Path(__file__).parents[2]


def test_killed_at_steps_of_a_tick_no_slot_is_lost_or_doubled() -> None:
    environ = {**clean_environment(), "PYTHONPATH": f"{ROOT}:{ROOT / 'client'}"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.ticks", "--kills", "10"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["kills"], found["lost"], found["doubled"], found["run_twice"]) == (10, 0, 0, 0)
    assert found["ran"] > 0
