"""state.json: private, never half written, safe under writers at the same time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from workers.home import ROOT
from workers.processes import Identity
from workers.state import StateFile

COUNT = """
import sys
from pathlib import Path
from workers.state import StateFile
for _ in range(50):
    with StateFile(Path(sys.argv[1])).change("counter") as section:
        section["n"] = section.get("n", 0) + 1
"""


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    with StateFile(tmp_path / "state.json").change("valkey") as section:
        section["password"] = "secret"
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600


def test_an_error_inside_changes_nothing(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "state.json")
    with state.change("a") as section:
        section["x"] = 1
    with pytest.raises(ZeroDivisionError), state.change("a") as section:
        section["x"] = 1 / 0
    assert state.section("a") == {"x": 1}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1}'])
def test_a_damaged_file_reads_as_empty(tmp_path: Path, text: str) -> None:
    state = StateFile(tmp_path / "state.json")
    state.path.write_text(text)
    assert state.section("a") == {}


def test_writers_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    writers = [subprocess.Popen([sys.executable, "-c", COUNT, str(path)], cwd=ROOT) for _ in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    assert StateFile(path).section("counter") == {"n": 200}


def test_a_pid_that_was_given_again_is_another_process() -> None:
    child = subprocess.Popen(["sleep", "60"])
    identity = Identity.of(child.pid)
    assert identity is not None
    assert identity.alive()
    assert Identity.from_json(identity.to_json()) == identity
    assert not Identity(child.pid, "another start").alive()
    assert not Identity(child.pid, "another start").signal(9)
    child.kill()
    child.wait()
    assert not identity.alive()
    assert Identity.of(child.pid) is None
