"""Dispatchers killed in mid-tick beside two beats, Redis stopped and emptied (AT-H3, AT-H4).

``python -m tests.chaos.ticks`` kills a hundred and stops Redis for 20 seconds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.running import clean_environment

ROOT = Path(__file__).parents[2]


def test_killed_at_steps_of_a_tick_no_slot_is_lost_or_doubled() -> None:
    """H-06, H-20: nor when Redis is stopped and emptied."""
    environ = {**clean_environment(), "PYTHONPATH": f"{ROOT}:{ROOT / 'client'}"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos.ticks", "--kills", "10", "--outage", "4"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, f"\n{done.stderr[-3000:]}\nVERDICT {done.stdout}"
    found = json.loads(done.stdout.splitlines()[-1])
    wrong = {name: found[name] for name in ("lost", "doubled", "run_twice", "open", "not_run")}
    assert wrong == dict.fromkeys(wrong, 0)
    assert found["killed"] == 10
    assert found["ran"] > 0
