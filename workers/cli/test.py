"""``fleet test``: everything that must hold before a change goes in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

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

TOLD = 45
"""Lines that the reasons of failures take at the end of a whole run, about: where only the tail of an output is
kept, they are in it."""

NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"
"""Of the environment, left out: hundreds of processes start here, and each would compile every module anew."""

Reasons = dict[str, list[str]]


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def test(arguments: tuple[str, ...]) -> None:
    """Static checks, then pytest with ARGUMENTS (default: the whole suite, in several processes, beside the checks).

    Exit code 0 when everything passed. All steps run, also after one that failed. Of the whole suite, up to three
    tests that failed run once more, alone on the machine, and are named: what fails again, or more, is a failure.
    The last lines say why tests failed.

    \b
    ./fleet test tests/unit -x
    ./fleet test -- --help    the help of pytest
    """
    environ = process_environment(os.environ)
    environ.pop(NO_BYTECODE, None)
    if arguments:
        failed = _checks(environ)
        code = _pytest([*arguments], environ)
    else:
        with ThreadPoolExecutor(1) as beside:
            checks = beside.submit(_checks, environ)
            code = _whole(environ)
            failed = checks.result()
    if failed:
        say(f"static checks failed: {', '.join(failed)}")
    sys.exit(code or (1 if failed else 0))


def _whole(environ: dict[str, str]) -> int:
    # On servers of somebody else all would share one PostgreSQL, whose oldest transaction the outbox waits for.
    external = "FLEET_DATABASE_URL" in environ and "FLEET_REDIS_URL" in environ
    processes = 1 if external else PROCESSES
    code = _pytest(["-n", str(processes), *SHARED, "--cache-clear", "--force-short-summary"], environ)
    if code != 1:
        return code
    first, again, second = _reasons(), _failures(), {}
    steady = 0 < len(again) <= STEADY
    if steady:
        say("once more, alone:")
        code = _pytest([*again, "--force-short-summary"], environ)
        second = _reasons() if code else {}
    _tell(first, second)
    if steady and code == 0:
        say(f"failed beside others and passed alone: {' '.join(again)}")
    return code


def _tell(first: Reasons, second: Reasons) -> None:
    """Why tests failed, beside others and alone, in about TOLD lines."""
    most = max(3, TOLD // max(1, len(first) + len(second)) - 1)
    for run, reasons in (("failed", first), ("failed alone", second)):
        for name, lines in reasons.items():
            say(f"{run}: {name}")
            click.echo(_tail(lines, most), err=True)


def _tail(lines: list[str], most: int) -> str:
    """The first line and as many of the last as fit."""
    shown = lines if len(lines) <= most else [*lines[: most // 3], "...", *lines[most // 3 + 1 - most :]]
    return "\n".join(f"    {line}" for line in shown)


def _failures() -> list[str]:
    """The ids of the tests that did not pass."""
    return list(_noted("cache/lastfailed"))


def _reasons() -> Reasons:
    """Why they did not (tests/support/telling.py)."""
    return dict(_noted("fleet/failures"))


def _noted(name: str) -> Any:
    """What pytest's cache has of the last run under a name; empty when it has nothing."""
    try:
        return json.loads((ROOT / ".pytest_cache" / "v" / name).read_text())
    except OSError:
        return {}


def _pytest(arguments: list[str], environ: dict[str, str]) -> int:
    say("pytest " + " ".join(arguments))
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, env=environ, check=False).returncode


def _checks(environ: dict[str, str]) -> list[str]:
    """Runs the static checks; those that failed."""
    return [name for name, command in STEPS.items() if not _step(name, command, environ)]


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
