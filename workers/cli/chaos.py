"""``fleet chaos``: a fleet of its own under load and faults, for as long as asked."""

from __future__ import annotations

import os
import subprocess
import sys

import click

from workers.cli.arguments import Length
from workers.cli.running import say
from workers.home import ROOT
from workers.supervisor.supervisor import process_environment


@click.command()
@click.option("--minutes", type=Length("minutes", 0.1), default=4.0, show_default=True, help="Length, at least.")
@click.option("--seed", type=int, help="Chooses the faults; default: any, and it is printed.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON, with every finding.")
def chaos(minutes: float, seed: int | None, as_json: bool) -> None:
    """Break servers, processes, connections and messages of a private fleet, then check that nothing was lost.

    It has its own embedded servers and touches no other fleet. Each kind of fault comes at least once, so no run is
    shorter than about two minutes. Progress on stderr; on stdout a table of faults, operations, what was lost or
    doubled, and how long recoveries took. Exit code 0 when nothing was lost, doubled or left over; else 1, with what
    to look at. What is checked: docs/reliability.md.
    """
    if not (ROOT / "tests" / "chaos" / "driver").is_dir():
        say("the fault driver is part of the tests, which are not installed here: use a checkout.")
        sys.exit(2)
    command = [sys.executable, "-m", "tests.chaos.driver", "--minutes", str(minutes)]
    command += [] if seed is None else ["--seed", str(seed)]
    command += ["--json"] if as_json else []
    sys.exit(subprocess.run(command, cwd=ROOT, env=process_environment(os.environ), check=False).returncode)
