"""Where one fleet on this machine keeps its files: ``.fleet``, or the folder that ``FLEET_HOME`` names."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from workers.state import StateFile

ROOT = Path(__file__).resolve().parent.parent
"""The checkout: rooms, Procfile, migrations."""


@dataclass(frozen=True)
class Home:
    """A fleet's folder; nothing is made until something is written."""

    path: Path

    @classmethod
    def find(cls) -> Home:
        """``FLEET_HOME`` (the launcher sets it), else ``.fleet`` in the checkout."""
        return cls(Path(os.environ.get("FLEET_HOME") or ROOT / ".fleet").expanduser().absolute())

    @property
    def logs(self) -> Path:
        """One file per process."""
        return self.path / "logs"

    @property
    def state(self) -> StateFile:
        """Ports, passwords, and the processes that run or ran."""
        return StateFile(self.path / "state.json")

    @property
    def lock(self) -> Path:
        """Held by the supervisor as long as it lives."""
        return self.path / "fleet.lock"
