"""The Procfile is the one list of processes: parsed, scaled, and what containers run."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from workers.celery_config import QUEUES
from workers.home import ROOT
from workers.settings import SettingsError
from workers.supervisor import Scale, make_process, read_procfile

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
LINES = {"release", "sessions", "maintenance", "beat", "relay", "flower"}


def test_its_lines() -> None:
    assert set(read_procfile()) == LINES


def test_comments_and_blanks_are_no_lines(tmp_path: Path) -> None:
    path = tmp_path / "Procfile"
    path.write_text("# web: no\n\nweb: python -m web --port ${PORT:-80}  \nnot a line\n")
    assert {name: line.text for name, line in read_procfile(path).items()} == {
        "web": "python -m web --port ${PORT:-80}"
    }


def test_every_queue_has_a_worker() -> None:
    served = set()
    for line in read_procfile().values():
        words = line.text.split()
        if "-Q" in words:
            served |= set(words[words.index("-Q") + 1].split(","))
    assert served == set(QUEUES)


@pytest.mark.parametrize("line", ["sessions", "maintenance"])
def test_workers_of_one_line_have_names_of_their_own(line: str, tmp_path: Path) -> None:
    names = set()
    for number in (1, 2):
        process = make_process(read_procfile()[line], number, environ=os.environ, logs=tmp_path)
        text = read_procfile()[line].text.replace("python -m celery", "echo")
        words = subprocess.check_output(["/bin/sh", "-c", text], env=process.env, text=True).split()
        names.add(words[words.index("-n") + 1])
    assert names == {f"{line}.1@%h", f"{line}.2@%h"}


def test_scale() -> None:
    assert Scale().of("sessions") == 2
    assert Scale().of("beat") == 1
    scale = Scale.parse("sessions=4, beat=0", LINES)
    assert (scale.of("sessions"), scale.of("beat"), scale.of("relay")) == (4, 0, 1)


@pytest.mark.parametrize("text", ["sessions", "sessions=", "sessions=-1", "sessions=65", "web=1", "sessions=two"])
def test_a_scale_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="FLEET_SCALE has") as refused:
        Scale.parse(text, LINES)
    assert str(refused.value).endswith(".")


@pytest.mark.parametrize("line", sorted(LINES))
def test_containers_run_the_same_commands(line: str) -> None:
    service = COMPOSE["services"]["migrate" if line == "release" else line]
    # `$$` is Compose's way to leave a `$` to the shell in the container.
    command = [word.replace("$$", "$") for word in service["command"]]
    assert command == ["sh", "-c", f"exec {read_procfile()[line].text}"]


def test_containers_have_no_default_passwords() -> None:
    for name, service in COMPOSE["services"].items():
        for key, value in service.get("environment", {}).items():
            if "PASSWORD" in key or "URL" in key or "SECRET" in key:
                assert "${" in value, (name, key)
                assert ":-" not in value, (name, key)
                assert ":?" in value, (name, key)


def test_queues_in_containers_are_kept_as_here() -> None:
    """By the append-only file alone: snapshots beside it would cost forks, and one that fails stops all writes."""
    words = shlex.split(COMPOSE["services"]["valkey"]["command"][-1])
    kept = {name: words[words.index(name) + 1] for name in ("--appendonly", "--appendfsync", "--save")}
    assert kept == {"--appendonly": "yes", "--appendfsync": "everysec", "--save": ""}


def test_servers_are_healthy_and_migrated_before_the_processes_start() -> None:
    services = COMPOSE["services"]
    for name in ("postgres", "valkey"):
        assert services[name]["healthcheck"]["test"]
        assert services[name]["volumes"]
    # The first start has a server for its own use, on a socket only: healthy is what answers where others come.
    asked = services["postgres"]["healthcheck"]["test"]
    assert asked[asked.index("-h") + 1] == "127.0.0.1"
    for name in LINES - {"release"}:
        assert services[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully", name
        assert services[name]["healthcheck"]["test"], name
