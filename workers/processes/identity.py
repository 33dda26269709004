"""Which process a number meant when it was written down: a pid is given again, a pid with its start is not."""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import psutil


@dataclass(frozen=True)
class Identity:
    """A process by pid and start; ``mark`` is opaque and survives changes of the wall clock on Linux."""

    pid: int
    mark: str

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process with that pid now; None when there is none or only its zombie."""
        mark = _mark(pid)
        return None if mark is None else cls(pid, mark)

    @classmethod
    def from_json(cls, value: Any) -> Self | None:
        """What :meth:`to_json` gave; None for anything else."""
        match value:
            case {"pid": int(pid), "mark": str(mark)}:
                return cls(pid, mark)
        return None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def alive(self) -> bool:
        """Whether this very process still runs; a zombie does not."""
        return _mark(self.pid) == self.mark

    def members(self) -> list[Identity]:
        """Its living children of every depth and its process group, also after its own end; without itself.

        The kernel gives a pid to nobody else while a group of that number has members, so a group without
        a leader is still the one that this process led.
        """
        if _mark(self.pid) not in (self.mark, None) or not self.mark.startswith(_boot()):
            return []  # the number was given again, so nothing of the old group is left
        pids = {process.pid for process in psutil.process_iter() if _belongs(process.pid, self.pid)}
        if self.alive():
            with contextlib.suppress(psutil.Error):
                pids |= {child.pid for child in psutil.Process(self.pid).children(recursive=True)}
        return [one for pid in sorted(pids - {self.pid}) if (one := Identity.of(pid)) is not None]

    def signal(self, number: int) -> bool:
        """Sends a signal if it is still this process; whether it was."""
        if not self.alive():
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True


def _belongs(pid: int, group: int) -> bool:
    try:
        return os.getpgid(pid) == group
    except (ProcessLookupError, PermissionError):
        return False


def _mark(pid: int) -> str | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _portable_mark(pid)
    except ProcessLookupError:
        return None
    fields = text.rpartition(")")[2].split()
    # Fields 3 and 22 of proc(5): the state, and the start in clock ticks since boot.
    return None if fields[0] in "ZX" else f"{_boot()}:{fields[19]}"


def _boot() -> str:
    """Differs from boot to boot on Linux; empty elsewhere."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _portable_mark(pid: int) -> str | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.2f}"
    except psutil.Error:
        return None
