"""Keeps the processes of the Procfile running until it is told to stop."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.home import ROOT, Home
from workers.processes import ManagedProcess
from workers.supervisor.procfile import RELEASE, Line, Scale

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 10.0
STEADY_AFTER = 30.0
"""Seconds after which a process counts as healthy: its next death is answered at once again."""

TRIM_EVERY = 60.0
"""Seconds between looks at the size of the logs."""

LAST = "relay"
"""Stopped after the others, so that what they commit while stopping still goes out."""


def make_process(
    line: Line, number: int, *, environ: Mapping[str, str], logs: Path, tether: bool = True
) -> ManagedProcess:
    """The ``number``-th process of a line (1 up), not started; its log is ``logs/{line}.{number}.log``.

    ``environ`` is the whole environment it gets, plus what every process needs: this Python first on
    PATH, the rooms and the client on PYTHONPATH, FLEET_PROCESS.
    """
    name = f"{line.name}.{number}"
    return ManagedProcess(
        name,
        line.command,
        env=process_environment(environ) | {"FLEET_PROCESS": str(number)},
        cwd=ROOT,
        log=logs / f"{name}.log",
        tether=signal.SIGTERM if tether else None,
    )


def process_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` with this Python first on PATH and the rooms importable from anywhere."""
    here = str(Path(sys.executable).parent)
    path = os.pathsep.join([here, environ.get("PATH", os.defpath)])
    rooms = os.pathsep.join([str(ROOT), str(ROOT / "client")])
    return {**environ, "PATH": path, "PYTHONPATH": rooms, "PYTHONUNBUFFERED": "1"}


@dataclass
class Supervised:
    """One process with its history; ``state`` is starting, running, waiting (before a restart) or stopped."""

    line: str
    process: ManagedProcess
    state: str = "starting"
    restarts: int = 0
    pause: float = 0.0
    due: float = 0.0
    last_exit: int | None = None

    def to_json(self) -> dict[str, Any]:
        """For ``state.json`` and ``fleet status``."""
        identity = self.process.identity
        return {
            "line": self.line,
            "state": self.state,
            "restarts": self.restarts,
            "started_at": self.process.started_at,
            "last_exit": self.last_exit,
            "identity": identity.to_json() if identity and self.state == "running" else None,
            "log": str(self.process.log),
        }


class Supervisor:
    """All processes but ``release``, as many as ``scale`` says. Use from one thread, the main one."""

    def __init__(
        self,
        home: Home,
        lines: Mapping[str, Line],
        scale: Scale,
        environ: Mapping[str, str],
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.home = home
        self.say = say
        self._trim_due = 0.0
        self._unrecorded = False
        self.all = [
            Supervised(name, make_process(line, number, environ=environ, logs=home.logs))
            for name, line in lines.items()
            if name != RELEASE
            for number in range(1, scale.of(name) + 1)
        ]

    def start(self) -> None:
        """Starts every process, without waiting for any to be ready."""
        for one in self.all:
            self._start(one)
        self._record()

    def check(self) -> None:
        """One look at every process: notes the dead, restarts those whose pause is over, trims logs.

        OSError when the disk does not let it; another look goes on from there.
        """
        changed = False
        now = time.monotonic()
        if now >= self._trim_due:
            self._trim_due = now + TRIM_EVERY
            for one in self.all:
                one.process.trim_log()
        for one in self.all:
            if one.state == "running" and not one.process.running:
                self._died(one, now)
                changed = True
            elif one.state == "waiting" and now >= one.due:
                self._start(one)
                one.restarts += 1
                changed = True
        if changed or self._unrecorded:
            self._record()

    def _start(self, one: Supervised) -> None:
        one.process.start()
        one.state = "running"

    def _died(self, one: Supervised, now: float) -> None:
        one.last_exit = one.process.returncode
        steady = time.time() - one.process.started_at > STEADY_AFTER
        one.pause = FIRST_PAUSE if steady else min(LONGEST_PAUSE, max(FIRST_PAUSE, one.pause * 2))
        one.due = now + one.pause
        one.state = "waiting"
        self.say(f"{one.process.name} ended ({_exit(one.last_exit)}); starting it again in {one.pause:g} s")

    def exits(self, line: str) -> set[int | None]:
        """Exit codes of the processes of a line that wait for their next start."""
        return {one.last_exit for one in self.all if one.line == line and one.state == "waiting"}

    def give(self, line: str, **variables: str) -> None:
        """Variables for the next starts of a line's processes."""
        for one in self.all:
            if one.line == line:
                one.process.env.update(variables)

    def stop(self, grace: float, hurry: Callable[[], bool] = lambda: False) -> list[str]:
        """SIGTERM to all, the relay last; SIGKILL after ``grace`` seconds or when ``hurry`` says so.

        The names of those that had to be killed.
        """
        killed: list[str] = []
        for group in ([p for p in self.all if p.line != LAST], [p for p in self.all if p.line == LAST]):
            for one in group:
                one.process.kill(signal.SIGTERM)
            until = time.monotonic() + grace
            while any(one.process.running for one in group) and time.monotonic() < until and not hurry():
                time.sleep(0.05)
            for one in group:
                if one.process.running:
                    killed.append(one.process.name)
                    one.process.kill_group()
                if one.process.pid:
                    one.last_exit = one.process.wait(10)
                one.state = "stopped"
        with contextlib.suppress(OSError):
            self._record()
        return killed

    def _record(self) -> None:
        self._unrecorded = True
        with self.home.state.change("processes") as section:
            section.clear()
            section.update({one.process.name: one.to_json() for one in self.all})
        self._unrecorded = False


def _exit(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
