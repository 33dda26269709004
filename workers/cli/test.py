"""``fleet test``: everything that must hold before a change goes in."""

from __future__ import annotations

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


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def test(arguments: tuple[str, ...]) -> None:
    """Static checks, then pytest with ARGUMENTS (default: the whole suite).

    Exit code 0 when everything passed. All steps run, also after one that failed.
    """
    environ = process_environment(os.environ)
    failed = [name for name, command in STEPS.items() if not _step(name, command, environ)]
    say("pytest " + " ".join(arguments))
    code = subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, env=environ, check=False).returncode
    if failed:
        say(f"failed before pytest: {', '.join(failed)}")
    sys.exit(code or (1 if failed else 0))


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
