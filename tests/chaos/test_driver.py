"""Random faults of every kind: nothing lost, nothing doubled, nothing left over (T30, rows B-12, B-13, P-11)."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from sqlalchemy import text

from tests.chaos.driver.faults import KINDS
from tests.chaos.driver.run import MODULES
from tests.chaos.driver.work import Work
from tests.support import RunningFleet, eventually
from workers.supervisor.supervisor import process_environment

MINUTES, SEED = 2.5, 1
BAR = 60.0
"""Seconds to recover in, on a machine that does other things; alone it is a tenth of that."""


def test_random_faults() -> None:
    """As anybody runs it: ``./fleet chaos``, its exit code and its report."""
    words = ["chaos", "--minutes", str(MINUTES), "--seed", str(SEED), "--json"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "workers.cli", *words],
        cwd="/",
        env=process_environment(os.environ),
        capture_output=True,
        text=True,
        timeout=MINUTES * 60 + 900,
        check=False,
    )
    print(done.stderr, done.stdout)
    assert done.returncode == 0, done.stderr + done.stdout
    report = json.loads(done.stdout)
    assert (report["passed"], report["seed"], report["findings"]) == (True, SEED, {})
    assert report["seconds"] >= MINUTES * 60
    assert len(KINDS) > 20, MODULES
    assert set(report["faults"]) == set(KINDS), "each kind came"
    numbers = report["numbers"]
    assert (numbers["lost"], numbers["doubled"], numbers["events lost"], numbers["events doubled"]) == (0, 0, 0, 0)
    assert numbers["answered"] > MINUTES * 100
    assert numbers["events followed by readers"] > MINUTES * 25
    assert numbers["recovery p99 (s)"] < BAR


def test_the_check_finds_what_is_planted(fleet: RunningFleet) -> None:
    """The check of a run can fail: a lost write, a doubled one, another answer, an event that is gone."""
    work = Work(fleet, [fleet.client])
    work.start()
    work.goes_on(40)
    work.finish()
    eventually(lambda: not work.judge(fleet.engine).lost, every=0.1)
    assert work.judge(fleet.engine).passed
    assert not work.failures

    lost = work.journal.open("session.touch")
    lost.settle("accepted")
    doubled = work.journal.open("session.append_output")
    for key in (doubled.key, f"{doubled.key}-again"):
        arguments = {"session_id": work.homes[0], "content": "x", "actor": doubled.mark, "idempotency_key": key}
        doubled.answered(fleet.call("session.append_output", **arguments))
    found = work.judge(fleet.engine)
    assert [line.split()[0] for line in found.lost] == [lost.mark]
    assert [line.split()[0] for line in found.doubled] == [doubled.mark]
    assert [line.split()[0] for line in found.wrong] == [doubled.mark], "the second answer is not the stored one"

    with fleet.engine.begin() as db:
        db.execute(text("DELETE FROM session_events WHERE session_id = :id AND seq = 2"), {"id": work.homes[0]})
    assert any("seq runs from 1" in line for line in work.judge(fleet.engine).wrong)
