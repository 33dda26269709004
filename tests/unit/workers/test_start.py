"""A process that cannot start says why in one sentence, exits with 2 and shows no traceback (P-01)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
WORKER = ["-m", "celery", "-A", "workers.main", "--quiet", "worker", "-P", "solo", "-Q", "sessions"]
BEAT = ["-m", "celery", "-A", "workers.main", "--quiet", "beat"]
FLOWER = ["-m", "workers.flower"]

# Nothing listens on the reserved port 1; the tries are quick.
NOWHERE = {
    "FLEET_DATABASE_URL": "postgresql://fleet:hidden@127.0.0.1:1/fleet",
    "FLEET_REDIS_URL": "redis://:hidden@127.0.0.1:1/0",
    "FLEET_REDIS_RETRIES": "1",
    "FLEET_REDIS_RETRY_DELAY_MS": "1",
}


def start(arguments: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "client")])
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**own, "PYTHONPATH": paths, **NOWHERE, **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def assert_one_sentence(done: subprocess.CompletedProcess[str], beginning: str) -> None:
    lines = [line for line in done.stderr.splitlines() if line]
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(beginning)
    assert lines[0].endswith(".")
    assert "hidden" not in done.stdout + done.stderr


@pytest.mark.parametrize("arguments", [WORKER, BEAT, FLOWER], ids=["worker", "beat", "flower"])
def test_a_bad_setting(arguments: list[str]) -> None:
    assert_one_sentence(start(arguments, FLEET_POOL_SIZE="0"), "FLEET_POOL_SIZE is 0 but must be a whole number")


@pytest.mark.parametrize("arguments", [WORKER, BEAT, FLOWER], ids=["worker", "beat", "flower"])
def test_a_host_that_is_none(arguments: list[str]) -> None:
    done = start(arguments, FLEET_REDIS_URL="", FLEET_REDIS_HOST="box/1")
    assert_one_sentence(done, "FLEET_REDIS_HOST is 'box/1' but must be the name or the address of a machine")


def test_a_host_that_no_server_of_names_takes() -> None:
    done = start(BEAT, FLEET_REDIS_URL="redis://a..b/0")
    assert_one_sentence(done, "FLEET_REDIS_URL leads to redis://a..b/0, which cannot be used")


@pytest.mark.parametrize("arguments", [WORKER, BEAT, FLOWER], ids=["worker", "beat", "flower"])
def test_an_unknown_setting(arguments: list[str]) -> None:
    assert_one_sentence(start(arguments, FLEET_POOLSIZE="3"), "FLEET_POOLSIZE is not a setting of the fleet")


def test_a_worker_without_its_database() -> None:
    done = start(WORKER)
    assert_one_sentence(done, "FLEET_DATABASE_URL leads to postgresql+psycopg2://fleet:***@127.0.0.1:1/fleet, which")
    assert "or run `./fleet up` without it" in done.stderr


def test_a_server_that_nobody_named() -> None:
    done = start(BEAT, FLEET_REDIS_URL="", FLEET_REDIS_PORT="1")
    assert_one_sentence(
        done, "FLEET_REDIS_URL is not set and so leads to redis://localhost:1/0, which cannot be used"
    )
    assert "run `./fleet up`, which brings its own server, or set FLEET_REDIS_URL" in done.stderr


@pytest.mark.parametrize("arguments", [BEAT, FLOWER], ids=["beat", "flower"])
def test_without_redis(arguments: list[str]) -> None:
    done = start(arguments, FLEET_FLOWER_PASSWORD="hidden")
    assert_one_sentence(done, "FLEET_REDIS_URL leads to redis://:***@127.0.0.1:1/0, which cannot be used")


def test_flower_without_a_password() -> None:
    assert_one_sentence(start(FLOWER), "FLEET_FLOWER_PASSWORD is not set")


def test_flower_with_a_user_that_authentication_cannot_carry() -> None:
    done = start(FLOWER, FLEET_FLOWER_PASSWORD="hidden", FLEET_FLOWER_USER="a:b")
    assert_one_sentence(done, "FLEET_FLOWER_USER is 'a:b' but must be a name without a colon")


def test_flower_on_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = start(FLOWER, FLEET_FLOWER_PASSWORD="hidden", FLEET_FLOWER_PORT=port, FLEET_LAZY_CONNECT="true")
    assert_one_sentence(done, f"Flower cannot listen on 127.0.0.1:{port} (Address already in use)")
