"""Python environments of their own for what the fleet must never depend on: peers, and plots.

``.fleet/peers-venv`` and ``.fleet/plots-venv`` from ``requirements/peers.txt`` and ``requirements/plots.txt``,
pinned and hashed. A stamp says whether an environment is complete; a cut one is made anew.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from workers.home import ROOT, Home
from workers.launch import locked

Kind = Literal["peers", "plots"]


class EnvironmentMissing(Exception):
    """The environment could not be made; the text is a sentence that says where to look."""


def python_of(kind: Kind, say: Callable[[str], None]) -> Path:
    """The Python of an environment, made first where it is not there: a minute or two, once.

    Raises EnvironmentMissing with the place of pip's log where it cannot be made.
    """
    home = Home.find().path
    folder = home / f"{kind}-venv"
    pins = ROOT / "requirements" / f"{kind}.txt"
    wanted = hashlib.sha256(pins.read_bytes() + f"{sys.version}\n{folder}".encode()).hexdigest()
    stamp = folder / "fleet.stamp"
    (home / "logs").mkdir(parents=True, exist_ok=True)
    with locked(home / f"{kind}-venv.lock"):
        if stamp.is_file() and stamp.read_text() == wanted:
            return folder / "bin" / "python"
        log = home / "logs" / f"{kind}-venv.log"
        say(f"making the Python environment for {kind} in {folder} (once; log: {log})")
        started = time.monotonic()
        _make(folder, pins, log)
        stamp.write_text(wanted)
        say(f"environment for {kind} ready after {time.monotonic() - started:.0f} s")
    return folder / "bin" / "python"


def pinned(distribution: str) -> str:
    """The version of a peer."""
    pins = (ROOT / "requirements" / "peers.txt").read_text()
    found = re.search(rf"^{re.escape(distribution)}==(\S+)", pins, re.MULTILINE)
    if found is None:
        raise LookupError(f"requirements/peers.txt does not pin {distribution}")
    return found[1]


def _make(folder: Path, pins: Path, log: Path) -> None:
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--require-hashes", "--prefer-binary", "--no-input"]
    pip += ["--disable-pip-version-check", "--progress-bar=off", "-r", str(pins)]
    with log.open("w") as output:
        # The base's own Python: a venv made by a venv's Python would lose its packages with that.
        for command in ([sys.executable, "-m", "venv", "--clear", str(folder)], pip):
            if subprocess.run(command, stdout=output, stderr=output, check=False).returncode:
                raise EnvironmentMissing(f"the environment {folder.name} could not be made: see {log}")
