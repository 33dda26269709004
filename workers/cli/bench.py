"""``fleet bench``: operations a second, latency and processor time on this machine, beside its limits."""

from __future__ import annotations

import os
import subprocess
import sys

import click

from workers.cli.running import say
from workers.home import ROOT
from workers.supervisor.supervisor import process_environment


@click.command()
@click.option("--quick", is_flag=True, help="Three rounds of 1.5 seconds a shape: under three minutes.")
@click.option("--json", "as_json", is_flag=True, help="Everything that was measured, as JSON.")
def bench(quick: bool, as_json: bool) -> None:
    """Measure a fleet of its own on embedded, durable servers; about six minutes.

    Beside it, in the same rounds: stock Celery, bare Python and pgbench with the same statement. What is measured:
    docs/performance.md. Touches no other fleet. The ratios count, not the figures: leave the machine alone meanwhile.
    """
    if not (ROOT / "benchmarks" / "bench").is_dir():
        say("the benchmarks are not installed here: use a checkout.")
        sys.exit(2)
    command = [sys.executable, "-m", "benchmarks.bench"]
    command += ["--quick"] if quick else []
    command += ["--json"] if as_json else []
    sys.exit(subprocess.run(command, cwd=ROOT, env=process_environment(os.environ), check=False).returncode)
