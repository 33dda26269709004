"""The client as a distribution: its wheel builds, and works where nothing of the fleet exists."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.support import RunningFleet
from workers.home import ROOT

PROGRAM = """
import sys
from sessionfleet import Fleet, FleetError
from sessionfleet.errors import SessionNotFound

assert "site-packages" in sys.modules["sessionfleet"].__file__
for room in ("tasks", "sessions", "models", "workers", "fanout", "history"):
    try:
        __import__(room)
    except ImportError:
        continue
    raise SystemExit(f"{room} can be imported")
with Fleet.connect(*sys.argv[1:]) as fleet:
    session = fleet.call("session.create", agent_id="elsewhere")
    fleet.call("session.terminate", session_id=session["id"])
    print(*[event.event_name for event in fleet.subscribe(session["id"], after_seq=0, marks=False)])
    try:
        fleet.call("session.get", session_id="nobody")
    except SessionNotFound as error:
        print(error.code)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # A copy: building leaves its traces beside the sources.
    copy = shutil.copytree(ROOT / "client", folder / "client", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q"]
    done = subprocess.run(
        [*command, "-w", str(folder), str(copy)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    [built] = folder.glob("sessionfleet-*.whl")
    return built


def test_it_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        metadata = archive.read(next(name for name in archive.namelist() if name.endswith("/METADATA"))).decode()
    sources = {
        str(path.relative_to(ROOT / "client"))
        for path in (ROOT / "client" / "sessionfleet").rglob("*")
        if path.suffix in (".py", ".typed")
    }
    assert set(names) == sources
    assert "sessionfleet/py.typed" in names
    for line in ("Name: sessionfleet", "Requires-Python: >=3.11", "Requires-Dist: redis<9,>=7.2"):
        assert line in metadata


def test_it_works_alone(wheel: Path, fleet: RunningFleet, tmp_path: Path) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    purelib = Path(sysconfig.get_path("purelib", vars={"base": str(home), "platbase": str(home)}))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(purelib)  # what pip does with a wheel without scripts
    # Its dependencies come from the environment of this run, which holds no package of ours.
    (purelib / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    done = subprocess.run(
        [str(home / "bin" / "python"), "-W", "error", "-c", PROGRAM, fleet.settings.redis_url],
        env={"PATH": os.defpath},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["session.created", "session.terminated", "SESSION_NOT_FOUND"]
    assert done.stderr == ""
