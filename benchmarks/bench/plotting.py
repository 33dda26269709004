"""Hands what was measured to the environment that can draw."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.bench.environment import python_of
from workers.home import ROOT


def plot(found: dict[str, Any], folder: Path, say: Callable[[str], None]) -> None:
    """Writes the PNGs of this measurement into ``folder``, relative to the checkout; raises CalledProcessError."""
    python = python_of("plots", say)
    folder = ROOT / folder
    folder.mkdir(parents=True, exist_ok=True)
    command = [str(python), "-m", "benchmarks.bench.plots", str(folder)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        input=json.dumps(found),
        stdout=subprocess.PIPE,
        env=os.environ | {"MPLBACKEND": "Agg"},
        text=True,
        check=True,
    )
    for name in done.stdout.split():
        say(f"wrote {folder / name}")
