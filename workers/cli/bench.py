"""``fleet bench``: operations a second, latency and processor time on this machine, beside its limits."""

from __future__ import annotations

import os
import subprocess
import sys

import click

from workers.cli.arguments import Length
from workers.cli.running import say
from workers.home import ROOT
from workers.supervisor.supervisor import process_environment


@click.command(epilog="One of --peers, --growth, --hot, --fanout, --soak and --kills at a time.")
@click.option("--quick", is_flag=True, help="Three rounds of 1.5 seconds a shape: under three minutes.")
@click.option("--peers", is_flag=True, help="Also dramatiq, taskiq, procrastinate, DBOS, LangGraph, ADK, Agents.")
@click.option("--growth", is_flag=True, help="1,000,000 sessions with 10,000,000 events against 10,000.")
@click.option("--hot", is_flag=True, help="64 writers on one session against 64 writers on 64.")
@click.option("--fanout", is_flag=True, help="From the commit to 100 subscribers; the relay alone.")
@click.option("--soak", type=Length("minutes", 0.1), help="1,000 sessions, each an operation a second.")
@click.option(
    "--kills", type=click.IntRange(1), metavar="N", help="SIGKILL a worker N times under load; count the effects."
)
@click.option("--plots", metavar="DIR", is_flag=False, flag_value="docs/images", help="Write PNGs there.")
@click.option("--rounds", type=click.IntRange(1), help="Rounds instead of five.")
@click.option("--seconds", type=Length("seconds", 0.1), help="Seconds of each shape and round.")
@click.option("--sessions", type=click.IntRange(1), help="Of --growth and --soak.")
@click.option("--events", type=click.IntRange(1), help="Of --growth and of --fanout's relay.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON; the tables go to stderr.")
def bench(as_json: bool, **options: bool | str | float | None) -> None:
    """Measure a fleet of its own on embedded, durable servers; about six minutes.

    Beside it, in the same rounds: stock Celery, bare Python and pgbench with the same statement. What is measured,
    and what the bars are: docs/performance.md. Touches no other fleet. Exits with 0 whatever it finds. The ratios
    count, not the figures: leave the machine alone meanwhile.
    """
    if not (ROOT / "benchmarks" / "bench").is_dir():
        say("the benchmarks are not installed here: use a checkout.")
        sys.exit(2)
    command = [sys.executable, "-m", "benchmarks.bench", *(["--json"] if as_json else [])]
    for name, value in options.items():
        if value is True:
            command.append(f"--{name}")
        elif value not in (None, False):
            command += [f"--{name}", str(value)]
    sys.exit(subprocess.run(command, cwd=ROOT, env=process_environment(os.environ), check=False).returncode)
