"""./fleet finds a Python, makes the environment once, and hands its arguments over unchanged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.running import clean_environment
from workers.home import ROOT

ECHO = """
import json, os, sys
print(json.dumps({"arguments": sys.argv[1:], "cwd": os.getcwd(), "python": sys.executable, "path": sys.path,
                  "home": os.environ["FLEET_HOME"]}))
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in a folder with spaces whose requirements are empty and whose command line is an echo."""
    clone = tmp_path_factory.mktemp("a clone") / "with spaces"
    (clone / "workers" / "cli").mkdir(parents=True)
    (clone / "requirements").mkdir()
    shutil.copy(ROOT / "fleet", clone)
    shutil.copy(ROOT / "workers" / "launch.py", clone / "workers")
    for name in ("runtime", "dev"):
        (clone / "requirements" / f"{name}.txt").write_text("# nothing\n")
    (clone / "workers" / "__init__.py").touch()
    (clone / "workers" / "cli" / "__init__.py").touch()
    (clone / "workers" / "cli" / "__main__.py").write_text(ECHO)
    return clone


def launch(command: Path, *arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(command), *arguments],
        cwd=cwd,
        env={**clean_environment(), "FLEET_PYTHON": sys.executable, **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def first(clone: Path) -> list[subprocess.CompletedProcess[str]]:
    """Two first starts at the same time."""
    env = {**clean_environment(), "FLEET_PYTHON": sys.executable}
    both = [
        subprocess.Popen(
            [str(clone / "fleet"), "status", str(n)],
            env=env,
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(2)
    ]
    done = []
    for one in both:
        out, err = one.communicate(timeout=120)
        done.append(subprocess.CompletedProcess(one.args, one.returncode, out, err))
    return done


def test_two_first_starts_make_one_environment(clone: Path, first: list[subprocess.CompletedProcess[str]]) -> None:
    for number, done in enumerate(first):
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["arguments"] == ["status", str(number)]
    made = [done for done in first if "making the Python environment" in done.stderr]
    assert len(made) == 1
    assert any("waiting for it" in done.stderr for done in first)


@pytest.mark.usefixtures("first")
def test_a_second_start_is_silent_and_keeps_arguments_and_folder(clone: Path, tmp_path: Path) -> None:
    (tmp_path / "workers").mkdir()  # must not be taken for the fleet's own
    done = launch(clone / "fleet", "call", "a b", 'x={"y": "$z"}', cwd=tmp_path)
    assert done.stderr == ""
    echo = json.loads(done.stdout)
    assert echo["arguments"] == ["call", "a b", 'x={"y": "$z"}']
    assert echo["cwd"] == str(tmp_path)
    assert echo["python"] == str(clone / ".fleet" / "venv" / "bin" / "python")
    assert echo["path"][:2] == [str(clone), str(clone / "client")]
    assert echo["home"] == str(clone / ".fleet")


@pytest.mark.usefixtures("first")
def test_through_symlinks(clone: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "absolute").symlink_to(clone / "fleet")
    (tmp_path / "bin" / "fleet").symlink_to(Path("..") / "absolute")
    done = launch(tmp_path / "bin" / "fleet", cwd=Path("/"))
    assert json.loads(done.stdout)["home"] == str(clone / ".fleet"), done.stderr


@pytest.mark.usefixtures("first")
def test_changed_pins_are_installed_in_place(clone: Path) -> None:
    marker = clone / ".fleet" / "venv" / "in-use"
    marker.touch()
    (clone / "requirements" / "runtime.txt").write_text("# nothing, said otherwise\n")
    done = launch(clone / "fleet", cwd=clone)
    assert done.returncode == 0, done.stderr
    assert "making the Python environment" in done.stderr
    assert marker.exists(), "a running fleet may be using this environment"
    assert launch(clone / "fleet", cwd=clone).stderr == ""


def test_an_installation_that_fails_is_one_sentence(clone: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(clone, broken, symlinks=True, ignore=shutil.ignore_patterns(".fleet"))
    (broken / "requirements" / "runtime.txt").write_text("not-hashed==1\n")
    done = launch(broken / "fleet", cwd=broken)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("fleet: installing the packages failed: check the network")
    assert "Traceback" not in done.stderr
    assert (broken / ".fleet" / "logs" / "environment.log").read_text()


def test_no_python_that_is_new_enough(clone: Path, tmp_path: Path) -> None:
    for name in ("python", "python3", *(f"python3.{minor}" for minor in range(11, 15))):
        old = tmp_path / name
        old.write_text("#!/bin/sh\nexit 1\n")
        old.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    done = launch(clone / "fleet", cwd=clone, PATH=path, FLEET_PYTHON="")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "fleet: no Python 3.11 or newer was found: install one, or name it in FLEET_PYTHON."
    ]
    done = launch(clone / "fleet", cwd=clone, FLEET_PYTHON=str(tmp_path / "python3"))
    assert done.returncode == 2
    assert done.stderr.startswith("fleet: FLEET_PYTHON is ")
