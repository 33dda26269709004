"""Makes the fleet's own Python environment and hands over to the command line.

Runs before anything is installed: standard library only, started by ``./fleet`` as
``python -I workers/launch.py``. The environment lives in ``.fleet/venv`` (``FLEET_HOME`` moves
``.fleet``); a stamp of the pinned requirements says whether it is complete, so a second start costs
nothing and a cut one is repeated. Two starts at once wait for each other on a lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
HOME = Path(os.environ.get("FLEET_HOME") or ROOT / ".fleet").expanduser().absolute()
VENV = HOME / "venv"
PYTHON = VENV / "bin" / "python"
KINDS = ("runtime", "dev")


def main(arguments: list[str]) -> NoReturn:
    """Ensures the environment and becomes ``python -m workers.cli``; never returns."""
    ensure("dev" if arguments[:1] in (["test"], ["chaos"]) else "runtime")
    environ = dict(os.environ)
    environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "client")])
    environ["FLEET_HOME"] = str(HOME)
    environ.pop("PYTHONHOME", None)
    # -P: a folder `workers` where the caller happens to stand must not become ours.
    os.execve(PYTHON, [str(PYTHON), "-P", "-m", "workers.cli", *arguments], environ)  # noqa: S606


def ensure(kind: str) -> None:
    """An environment that holds everything of ``requirements/{kind}.txt``; exits with 2 where it cannot."""
    if complete(kind):
        return
    try:
        HOME.mkdir(parents=True, exist_ok=True)
        with locked(HOME / "venv.lock"):
            if not complete(kind):
                create(kind)
    except OSError as error:
        fail(f"cannot write to {error.filename or HOME} ({error.strerror}): free it, or set FLEET_HOME.")


def complete(kind: str) -> bool:
    """Whether the environment was finished from today's requirements by this Python; dev includes runtime."""
    wanted = stamp(kind)
    try:
        return PYTHON.exists() and wanted in (VENV / "fleet.stamp").read_text().split()
    except OSError:
        return False


def stamp(kind: str) -> str:
    """Changes with the pins, the Python and the place."""
    pins = (ROOT / "requirements" / f"{kind}.txt").read_bytes()
    return hashlib.sha256(pins + origin().encode()).hexdigest()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the file's lock; the kernel frees it when this process ends in any way."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another fleet command is making the environment; waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def create(kind: str) -> None:
    """Makes the environment and installs the pins; takes a minute or two the first time."""
    started = time.monotonic()
    log = HOME / "logs" / "environment.log"
    log.parent.mkdir(exist_ok=True)
    say(f"making the Python environment in {VENV} (once; log: {log})")
    log.write_text("")
    base = VENV / "fleet.base"
    # Packages are added in place where that is enough: a running fleet may be using this environment.
    if not (PYTHON.exists() and base.exists() and base.read_text() == origin()):
        command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
        with log.open("a") as output:
            made = subprocess.run(command, stdout=output, stderr=output, check=False)
        if made.returncode:
            fail(
                f"{sys.executable} cannot make virtual environments: install its venv package "
                f"(python3-venv on Debian and Ubuntu), or name another Python in FLEET_PYTHON; see {log}."
            )
        base.write_text(origin())
    if not install(ROOT / "requirements" / f"{kind}.txt", log):
        fail(f"installing the packages failed: check the network and pip's configuration, see {log}.")
    kinds = KINDS[: KINDS.index(kind) + 1]
    (VENV / "fleet.stamp").write_text("\n".join(map(stamp, kinds)) + "\n")
    say(f"environment ready after {time.monotonic() - started:.0f} s")


def origin() -> str:
    """What an environment cannot change in place: its Python and where it lies (scripts name it)."""
    return f"{sys.version}\n{VENV}\n"


def install(requirements: Path, log: Path) -> bool:
    """Runs pip with checked hashes, telling how many packages it has got; False when pip failed."""
    total = len(re.findall(r"^[A-Za-z0-9]", requirements.read_text(), re.MULTILINE))
    command = [str(PYTHON), "-m", "pip", "install", "--require-hashes", "--prefer-binary", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "-r", str(requirements)]
    with (
        log.open("a") as output,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=output, text=True) as pip,
    ):
        assert pip.stdout is not None  # noqa: S101  (said by PIPE above)
        done = 0
        for line in pip.stdout:
            output.write(line)
            if line.startswith("Collecting "):
                done += 1
                progress(done, total)
            elif line.startswith("Installing "):
                progress(total, total)
                say("unpacking the packages")
    return pip.returncode == 0


def progress(done: int, total: int) -> None:
    """A bar on a terminal, a line for every quarter elsewhere; always on stderr."""
    done = min(done, total)
    if sys.stderr.isatty():
        filled = 30 * done // max(total, 1)
        end = "\n" if done == total else ""
        print(f"\rfleet: [{'#' * filled:.<30}] {done}/{total} packages", end=end, file=sys.stderr, flush=True)
    elif done == total or done % max(total // 4, 1) == 0:
        say(f"{done} of {total} packages")


def say(text: str) -> None:
    print(f"fleet: {text}", file=sys.stderr, flush=True)


def fail(text: str) -> NoReturn:
    say(text)
    sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])
