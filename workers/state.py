"""``state.json``: what one fleet on this machine remembers between commands - ports, passwords, pids.

Readable by its owner only. Every change is read, modified and replaced under a lock, so a command and a
running supervisor may write at the same time; a reader sees an old or a new file, never half of one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class StateFile:
    """Sections (a word each) of JSON objects in ``path``; a missing or damaged file reads as empty."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Any]:
        """All sections."""
        try:
            value = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    def section(self, name: str) -> dict[str, Any]:
        """One section; empty when it is not there."""
        value = self.read().get(name)
        return value if isinstance(value, dict) else {}

    @contextlib.contextmanager
    def change(self, name: str) -> Iterator[dict[str, Any]]:
        """One section to be changed in place; written when the block ends without an error."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            everything = self.read()
            section = everything.get(name)
            section = section if isinstance(section, dict) else {}
            yield section
            everything[name] = section
            self._replace(everything)

    def _replace(self, everything: dict[str, Any]) -> None:
        draft = self.path.with_suffix(f".{os.getpid()}.draft")
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123
            json.dump(everything, file, indent=1)
            file.write("\n")
        draft.replace(self.path)
