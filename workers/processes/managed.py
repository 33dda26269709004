"""One process that we start, watch and stop, with its log file; used by the supervisor and by the tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from workers.processes.identity import Identity

_TETHER = Path(__file__).with_name("tether.py")
_KEEP_LOG = 10_000_000
"""Bytes; a larger log goes to ``.1``."""


class ManagedProcess:
    """A program in its own session (process group), its output appended to ``log``.

    ``command`` is an argument list; ``env`` is its whole environment; ``user`` (uid, gid) needs root. With
    ``tether`` (default SIGTERM) it gets that signal when this process ends in any way, on Linux; start it
    from a thread that lives as long. Not thread-safe.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        log: Path,
        tether: signal.Signals | None = signal.SIGTERM,
        user: tuple[int, int] | None = None,
    ) -> None:
        self.name = name
        self.command = list(command)
        self.env = dict(env)
        self.cwd = cwd
        self.log = log
        self.tether = tether
        self.user = user
        self.identity: Identity | None = None
        self.started_at = 0.0
        """Wall clock of the last start, seconds since the epoch."""
        self._child: subprocess.Popen[bytes] | None = None
        self._log_from = 0

    @property
    def pid(self) -> int:
        """Of the last start; 0 before the first."""
        return self._child.pid if self._child is not None else 0

    @property
    def returncode(self) -> int | None:
        """As in :mod:`subprocess`: None while it runs, negative for a signal."""
        return None if self.running or self._child is None else self._child.returncode

    @property
    def running(self) -> bool:
        """Whether it runs; the first look after its end also kills what it left in its group."""
        if self._child is None or self._child.returncode is not None:
            return False
        if not _ended(self._child):
            return True
        # Before the reaping: until then nobody else can get this number as a group.
        self.kill_group()
        self._child.wait()
        return False

    def start(self) -> None:
        """Starts it and returns at once; RuntimeError when it runs already, OSError when it cannot start."""
        if self.running:
            raise RuntimeError(f"{self.name} is already running as {self.pid}")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.trim_log()
        with self.log.open("ab") as output:
            self._log_from = output.tell()
            self._child = subprocess.Popen(
                self._argv(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.env,
                cwd=self.cwd,
                start_new_session=True,
            )
        self.started_at = time.time()
        self.identity = Identity.of(self._child.pid)

    def _argv(self) -> list[str]:
        if self.tether is None and self.user is None:
            return self.command
        user = "-" if self.user is None else f"{self.user[0]}:{self.user[1]}"
        number = "0" if self.tether is None else str(int(self.tether))
        return [sys.executable, "-I", "-S", str(_TETHER), str(os.getpid()), number, user, "--", *self.command]

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Sends a signal to the process itself, SIGKILL by default; nothing when it has ended."""
        if self._child is not None and self.running:
            self._child.send_signal(number)

    def kill_group(self, number: int = signal.SIGKILL) -> None:
        """Sends a signal to the process and everything it started in its group; nothing when it has ended."""
        if self._child is not None and self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, number)

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end and gives the return code; TimeoutError after ``timeout`` seconds."""
        if self._child is None:
            raise RuntimeError(f"{self.name} was never started")
        until = None if timeout is None else time.monotonic() + timeout
        while self.running:
            if until is not None and time.monotonic() >= until:
                raise TimeoutError(f"{self.name} still runs after {timeout} s")
            time.sleep(0.02)
        returncode: int = self._child.returncode
        return returncode

    def stop(self, grace: float = 10.0, number: int = signal.SIGTERM) -> bool:
        """Signals it, waits ``grace`` seconds, then kills its whole group; whether it went by itself."""
        if self._child is None:
            return True
        if self.running:
            self.kill(number)
        try:
            self.wait(grace)
            clean = True
        except TimeoutError:
            clean = False
            self.kill_group()
            self.wait(10)
        return clean

    def restart(self, grace: float = 10.0) -> None:
        """Stops it and starts it again with the same command, environment and log."""
        self.stop(grace)
        self.start()

    def trim_log(self, keep: int = _KEEP_LOG) -> bool:
        """Moves what is in a log of more than ``keep`` bytes to ``.1``; whether it did.

        The running process goes on writing to the same file, from its start; what it writes in the instant
        between copy and cut is lost.
        """
        if not self.log.exists() or self.log.stat().st_size <= keep:
            return False
        shutil.copyfile(self.log, self.log.with_name(self.log.name + ".1"))
        os.truncate(self.log, 0)
        self._log_from = 0
        return True

    def log_text(self, *, everything: bool = False) -> str:
        """What it has written since its last start, or since the file was made."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as file:
            file.seek(0 if everything else self._log_from)
            return file.read().decode(errors="replace")


def _ended(child: subprocess.Popen[bytes]) -> bool:
    """Whether the child has ended, without reaping it where the platform can look without reaping."""
    if not hasattr(os, "waitid"):
        return child.poll() is not None
    try:
        return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True
