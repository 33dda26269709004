"""The embedded servers: durable, private, found again, gone with whoever started them."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
import redis

from tests.support import eventually
from tests.support.servers import new_home
from workers.embedded import EmbeddedPostgres, EmbeddedValkey
from workers.embedded.valkey import allocator
from workers.home import ROOT
from workers.processes import Identity
from workers.state import StateFile
from workers.supervisor.supervisor import process_environment

START_AND_WAIT = """
import sys, time
from pathlib import Path
from workers.embedded import EmbeddedPostgres, EmbeddedValkey
servers = [EmbeddedPostgres(Path(sys.argv[1])), EmbeddedValkey(Path(sys.argv[1]))]
for server in servers:
    server.start()
print("started", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    home = new_home()
    yield home
    EmbeddedPostgres(home).remove()
    shutil.rmtree(home)


@pytest.fixture
def postgres(home: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(home)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def valkey(home: Path) -> Iterator[EmbeddedValkey]:
    server = EmbeddedValkey(home)
    server.start()
    yield server
    server.stop()


def query(server: EmbeddedPostgres, statement: str) -> list[tuple[object, ...]]:
    dsn = server.url.replace("+psycopg2", "")
    connection = psycopg2.connect(dsn, connect_timeout=3)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def test_postgres_is_durable_and_wants_its_password(postgres: EmbeddedPostgres) -> None:
    for name, value in {"fsync": "on", "synchronous_commit": "on", "max_connections": "200"}.items():
        assert query(postgres, f"SHOW {name}") == [(value,)]
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(host="127.0.0.1", port=postgres.port, user="fleet", password="wrong", dbname="postgres")


@pytest.mark.parametrize("end", ["stop", "immediate", "kill"])
def test_postgres_keeps_data_and_port_over_every_end(postgres: EmbeddedPostgres, end: str) -> None:
    query(postgres, f"CREATE TABLE kept_{end} AS SELECT 7 AS x")
    port = postgres.port
    if end == "kill":
        postgres.kill()
    else:
        postgres.stop(mode="fast" if end == "stop" else end)
    assert not postgres.running
    assert not postgres.answers()
    postgres.start()
    assert postgres.port == port
    assert query(postgres, f"SELECT x FROM kept_{end}") == [(7,)]


def test_postgres_frozen_answers_nobody_until_it_goes_on(postgres: EmbeddedPostgres) -> None:
    postgres.pause()
    assert not postgres.answers()
    postgres.resume()
    assert postgres.answers()


def test_valkey_never_evicts_and_wants_its_password(valkey: EmbeddedValkey) -> None:
    with valkey.client() as client:
        for name, value in {"maxmemory-policy": "noeviction", "appendonly": "yes", "databases": "16"}.items():
            assert client.config_get(name) == {name: value}
    with redis.Redis(port=valkey.port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    assert valkey.password not in " ".join(valkey.process.command if valkey.process else [])


def test_valkey_runs_with_a_quick_allocator(valkey: EmbeddedValkey) -> None:
    """Linux on x86_64: elsewhere the wheel does not exist, and malloc is that of the C library, as in a folder that
    ld.so cannot be told."""
    assert valkey.process is not None
    if (sys.platform, platform.machine()) != ("linux", "x86_64") or set(" :") & set(sys.prefix):
        assert allocator() == []
        return
    loaded = Path(f"/proc/{valkey.process.pid}/maps").read_text()
    assert len(allocator()) == 2
    assert [path for path in allocator() if path not in loaded] == []


def test_valkey_keeps_data_and_port_over_a_kill(valkey: EmbeddedValkey) -> None:
    with valkey.client(15) as client:
        client.set("kept", "7")
        port = valkey.port
        valkey.kill()
        valkey.start()
        assert valkey.port == port
        assert client.get("kept") == "7"


def test_valkey_frozen_answers_nobody_until_it_goes_on(valkey: EmbeddedValkey) -> None:
    valkey.pause()
    assert not valkey.answers()
    valkey.resume()
    assert valkey.answers()


def test_they_end_with_a_killed_starter(home: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", START_AND_WAIT, str(home)],
        cwd=ROOT,
        env=process_environment(os.environ),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert starter.stdout is not None
    assert starter.stdout.readline() == "started\n"
    state = StateFile(home / "state.json")
    servers = [Identity.from_json(state.section(name)["process"]) for name in ("postgres", "valkey")]
    assert all(server is not None and server.alive() for server in servers)
    starter.send_signal(signal.SIGKILL)
    starter.communicate()
    eventually(lambda: not any(server is not None and server.alive() for server in servers))


def test_a_server_left_over_its_data_is_ended_first(home: Path) -> None:
    left = EmbeddedValkey(home)
    left.start()
    old = left.process.pid if left.process else 0
    second = EmbeddedValkey(home)
    second.start()
    assert not left.running
    assert second.answers()
    assert second.process is not None
    assert second.process.pid != old
    second.stop()


@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_postgres_in_a_closed_folder(mode: int) -> None:
    """As root another account runs it, which may not see our folder (a clone in /root)."""
    closed = new_home()
    closed.chmod(mode)
    server = EmbeddedPostgres(closed / "a clone" / ".fleet")
    try:
        server.start()
        assert query(server, "SELECT 1") == [(1,)]
        assert server.process is not None
        if os.geteuid() == 0:
            assert server.data.stat().st_uid != 0
            assert server.data.is_relative_to(closed) == (mode == 0o755)
    finally:
        server.remove()
        shutil.rmtree(closed)
    assert not server.running
