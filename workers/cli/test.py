"""``fleet test``: everything that must hold before a change goes in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import click

from workers.cli.running import say
from workers.home import ROOT
from workers.supervisor.supervisor import process_environment

STEPS = {
    "ruff check": ["-m", "ruff", "check", "--quiet", "."],
    "ruff format": ["-m", "ruff", "format", "--check", "--quiet", "."],
    "mypy --strict": ["-m", "mypy", "--no-error-summary"],
    "import contracts": ["-c", "from importlinter.cli import lint_imports_command as c; c(['--no-cache'])"],
}
"""The static checks by name, as arguments of Python."""

PROCESSES = 3
"""Of pytest at once for the whole suite: most tests wait for other processes. Each has servers of its own."""

SHARED = ["--dist", "loadfile", "--no-loadscope-reorder"]
"""Whole files to one process, in the order of ``testpaths``: the longest stand first."""

STEADY = 3
"""Failures of a whole run up to which each is tried once more, alone."""


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def test(arguments: tuple[str, ...]) -> None:
    """Static checks, then pytest with ARGUMENTS (default: the whole suite, in several processes).

    Exit code 0 when everything passed. All steps run, also after one that failed. Of the whole suite, up to three
    tests that failed run once more, alone on the machine, and are named: what fails again, or more, is a failure.
    """
    environ = process_environment(os.environ)
    failed = [name for name, command in STEPS.items() if not _step(name, command, environ)]
    code = _whole(environ) if not arguments else _pytest([*arguments], environ)
    if failed:
        say(f"failed before pytest: {', '.join(failed)}")
    sys.exit(code or (1 if failed else 0))


def _whole(environ: dict[str, str]) -> int:
    # On servers of somebody else all would share one PostgreSQL, whose oldest transaction the outbox waits for.
    external = "FLEET_DATABASE_URL" in environ and "FLEET_REDIS_URL" in environ
    processes = 1 if external else PROCESSES
    code = _pytest(["-n", str(processes), *SHARED, "--cache-clear"], environ)
    again = _failures() if code == 1 else []
    if not 0 < len(again) <= STEADY:
        return code
    say("once more, alone:")
    code = _pytest(again, environ)
    if code == 0:
        say(f"failed beside others and passed alone: {' '.join(again)}")
    return code


def _failures() -> list[str]:
    """The ids of the tests that did not pass, from pytest's cache of the last run."""
    try:
        return list(json.loads((ROOT / ".pytest_cache" / "v" / "cache" / "lastfailed").read_text()))
    except OSError:
        return []


def _pytest(arguments: list[str], environ: dict[str, str]) -> int:
    say("pytest " + " ".join(arguments))
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, env=environ, check=False).returncode


def _step(name: str, command: list[str], environ: dict[str, str]) -> bool:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        click.echo(done.stdout.rstrip(), err=True)
    say(f"{name}: {'failed' if done.returncode else 'ok'} ({time.monotonic() - began:.1f} s)")
    return done.returncode == 0
