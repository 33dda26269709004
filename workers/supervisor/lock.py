"""One supervisor per home: a file lock that the kernel frees with the process that holds it."""

from __future__ import annotations

import fcntl
import time
from types import TracebackType
from typing import IO, Self

from workers.home import Home

LOOK = 0.2
"""Seconds for which the lock may be somebody's who only looks whether it is held; a look takes microseconds."""


class AlreadyRunning(Exception):
    """Another supervisor holds this home."""


class FleetLock:
    """Context manager: holds the home or raises :class:`AlreadyRunning` after :data:`LOOK` seconds.

    The file is never inherited: children of the holder do not keep the lock alive.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        self._home.path.mkdir(parents=True, exist_ok=True)
        file = self._home.lock.open("a")
        until = time.monotonic() + LOOK
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < until:
                    time.sleep(0.01)
                    continue
                file.close()
                raise AlreadyRunning(str(self._home.path)) from None
            self._file = file
            return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def is_held(home: Home) -> bool:
    """Whether a supervisor is alive in this home, whatever it is doing."""
    if not home.lock.exists():
        return False
    with home.lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: who looks at the same time is no supervisor
        except BlockingIOError:
            return True
    return False
