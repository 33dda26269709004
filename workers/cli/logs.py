"""``fleet logs``: what the processes wrote."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

import click

from workers.cli.running import say
from workers.home import Home


@click.command()
@click.argument("process", required=False)
@click.option("--follow", "-f", is_flag=True, help="Go on with what is written from now on, until Ctrl-C.")
@click.option(
    "--lines", "-n", type=click.IntRange(0), default=50, show_default=True, help="Lines of each log to begin with."
)
def logs(process: str | None, follow: bool, lines: int) -> None:
    """Print logs: of PROCESS (sessions.1), of a whole line of the Procfile (sessions), or of all."""
    folder = Home.find().logs
    files = find(folder, process)
    if not files:
        known = ", ".join(sorted(path.stem for path in folder.glob("*.log"))) or "none yet"
        say(f"no log of {process or 'any process'} in {folder}; there are: {known}")
        sys.exit(1)
    width = max(len(path.stem) for path in files) if len(files) > 1 else 0
    positions = {path: _print_tail(path, lines, width) for path in files}
    with contextlib.suppress(KeyboardInterrupt):
        while follow:
            time.sleep(0.2)
            for path in find(folder, process):
                positions[path] = _print_from(path, positions.get(path, 0), width)


def find(folder: Path, process: str | None) -> list[Path]:
    """The log files of a process, of a line, or of every process and server, by name."""
    return sorted(
        path
        for path in folder.glob("*.log")
        if process in (path.stem, path.stem.split(".")[0]) or (process is None and path.stem != "environment")
    )


def _print_tail(path: Path, count: int, width: int) -> int:
    data = path.read_bytes()
    for line in data.decode(errors="replace").splitlines()[-count:] if count else []:
        _print(path, line, width)
    return len(data)


def _print_from(path: Path, position: int, width: int) -> int:
    """Prints the whole lines after ``position``; where the next begins. A shorter file was begun anew."""
    with path.open("rb") as file:
        file.seek(0, 2)
        file.seek(position if position <= file.tell() else 0)
        for raw in file:
            if not raw.endswith(b"\n"):
                return file.tell() - len(raw)
            _print(path, raw.decode(errors="replace").rstrip("\n"), width)
        return file.tell()


def _print(path: Path, line: str, width: int) -> None:
    click.echo(f"{path.stem:{width}} | {line}" if width else line)
