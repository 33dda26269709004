"""The PostgreSQL and Redis that tests run on: a private pair, or the ones the environment names.

With FLEET_DATABASE_URL and FLEET_REDIS_URL set, tests make a database of their own on that PostgreSQL and
use the Redis databases 8 to 11 of that server, after making sure that nobody else does. BROKER_TEST_SERVER names the
binary of another Redis for the tests that start their own.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
import redis
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import NullPool, create_engine, make_url, text

from workers.embedded import EmbeddedPostgres, EmbeddedValkey
from workers.migrate import ROOT, migrate
from workers.processes import ManagedProcess
from workers.settings import Settings
from workers.settings_urls import postgres_url

EXTERNAL_REDIS_BASE = 8
REDIS_DATABASES = 4
MARKER = "sessionfleet:tests"
OTHER_SERVER = "BROKER_TEST_SERVER"

# Settings of the embedded server that older ones refuse to start with; 6.2 allows DEBUG always.
NOT_YET = {
    b"v=6.": ("enable-debug", "zset-max-listpack", "set-max-listpack"),
    b"v=7.0.": ("set-max-listpack",),
}


class Servers:
    """One PostgreSQL and one Redis; ``postgres`` and ``valkey`` are None where they are not ours to stop."""

    def __init__(
        self,
        database_url: str,
        redis_url: str,
        postgres: EmbeddedPostgres | None = None,
        valkey: EmbeddedValkey | None = None,
    ) -> None:
        self.database_url = database_url
        """A database that exists, migrated where the servers are embedded; :meth:`new_database` makes more on the
        same server."""
        self.redis_url = redis_url
        """With the number of the first of the four databases that belong to the tests."""
        self.postgres = postgres
        self.valkey = valkey
        self._made: list[str] = []

    def new_database(self) -> str:
        """The URL of a new, empty database; dropped at the end."""
        return self._new()

    def migrated_database(self) -> str:
        """The URL of a new database at the newest revision, still without any month; dropped at the end."""
        return self._new(self._template)

    @cached_property
    def _template(self) -> str:
        """A database that was migrated and that nobody uses: a copy is made in a fifth of the time."""
        url = self.new_database()
        head = ScriptDirectory.from_config(Config(ROOT / "alembic.ini")).get_current_head()
        assert head is not None
        migrate(Settings.load({}, database_url=url), to=head)
        return str(make_url(url).database)

    def _new(self, template: str = "") -> str:
        name = f"fleet_test_{secrets.token_hex(6)}"
        self._admin(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
        self._made.append(name)
        return make_url(self.database_url).set(database=name).render_as_string(hide_password=False)

    def _admin(self, statement: str) -> None:
        engine = create_engine(self.database_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement))

    def close(self) -> None:
        """Drops what was made; embedded servers are stopped and their files deleted."""
        if self.postgres is not None and self.valkey is not None:
            self.valkey.stop()
            self.postgres.remove()
            shutil.rmtree(self.postgres.home, ignore_errors=True)
            return
        for name in self._made:
            self._admin(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        for number in range(REDIS_DATABASES):
            with redis.Redis.from_url(_database(self.redis_url, EXTERNAL_REDIS_BASE + number)) as client:
                client.flushdb()


class CopiedPostgres(EmbeddedPostgres):
    """An embedded PostgreSQL whose files are copies of those of the first of this run: initdb and the revisions
    take seconds on a busy machine. Its database is migrated; else there is no difference but that they share a
    password."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        with self._state.change(self.name) as section:
            section["password"] = _first().password

    def _create(self, data: Path) -> None:
        data.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        subprocess.run(["cp", "-a", str(_first().data), str(data)], check=True)


@cache
def _first() -> EmbeddedPostgres:
    """A cluster with a migrated database, stopped."""
    made = EmbeddedPostgres(new_home())
    atexit.register(shutil.rmtree, made.home, ignore_errors=True)
    atexit.register(made.remove)
    made.start()
    migrate(Settings.load({}, database_url=made.url))
    made.stop()
    return made


class OtherServer(EmbeddedValkey):
    """The server whose binary BROKER_TEST_SERVER names, set up as the embedded one; Redis 6.2 or newer."""

    binary = os.environ.get(OTHER_SERVER, "")

    def _prepare(self) -> None:
        super()._prepare()
        version = subprocess.check_output([self.binary, "--version"])
        for release, unknown in NOT_YET.items():
            if release in version:
                lines = self._config.read_text().splitlines(keepends=True)
                self._config.write_text("".join(line for line in lines if not line.startswith(unknown)))

    def _make(self, tether: signal.Signals | None) -> ManagedProcess:
        command = [self.binary, str(self._config)]
        env = {"PATH": os.defpath, "LC_ALL": "C"}
        return ManagedProcess(self.name, command, env=env, cwd=self.data, log=self.log, tether=tether)


def redis_server(home: Path) -> EmbeddedValkey:
    """The embedded Valkey, or another server where BROKER_TEST_SERVER names one; not started."""
    return (OtherServer if OtherServer.binary else EmbeddedValkey)(home)


def embedded_servers() -> Servers:
    """A private pair in a folder of its own; as ``./fleet up`` starts it."""
    home = new_home()
    postgres, valkey = CopiedPostgres(home), redis_server(home)
    postgres.start()
    valkey.start()
    return Servers(postgres.url, f"{valkey.url}/0", postgres, valkey)


@contextlib.contextmanager
def private_valkey() -> Iterator[EmbeddedValkey]:
    """A :func:`redis_server` by itself, in a folder of its own that goes with it."""
    home = new_home()
    server = redis_server(home)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


def new_home() -> Path:
    """A new folder that an unprivileged account can enter too, should we be root; the caller deletes it."""
    home = Path(tempfile.mkdtemp(prefix="sessionfleet-test-"))
    home.chmod(0o755)
    return home


def external_servers() -> Servers | None:
    """The pair that the environment names, or None; ends the run where using it could harm others."""
    database_url, redis_url = os.environ.get("FLEET_DATABASE_URL"), os.environ.get("FLEET_REDIS_URL")
    if not database_url and not redis_url:
        return None
    if not database_url or not redis_url:
        pytest.exit("set both FLEET_DATABASE_URL and FLEET_REDIS_URL to test external servers, or neither.", 2)
    for number in range(EXTERNAL_REDIS_BASE, EXTERNAL_REDIS_BASE + REDIS_DATABASES):
        _claim(_database(redis_url, number), number)
    return Servers(postgres_url(database_url), _database(redis_url, EXTERNAL_REDIS_BASE))


def _claim(url: str, number: int) -> None:
    """Empties a database that is empty already or was ours."""
    with redis.Redis.from_url(url) as client:
        if client.dbsize() and not client.exists(MARKER):
            pytest.exit(
                f"database {number} of FLEET_REDIS_URL holds keys that are not of these tests: tests use "
                f"and empty databases {EXTERNAL_REDIS_BASE} to {EXTERNAL_REDIS_BASE + REDIS_DATABASES - 1}; "
                "name another server.",
                2,
            )
        client.flushdb()
        client.set(MARKER, "emptied at every run")


def _database(url: str, number: int) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{number}"))
