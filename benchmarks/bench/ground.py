"""Servers, workers and sessions of a run, and the processor time each of them used."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from sessionfleet import Fleet
from workers.embedded import EmbeddedPostgres, EmbeddedValkey
from workers.home import ROOT
from workers.migrate import migrate
from workers.processes import ManagedProcess
from workers.settings import Settings
from workers.supervisor import make_process, read_procfile
from workers.supervisor.supervisor import process_environment

LINES = ("sessions", "sessions", "relay")
POSTGRES = {"shared_buffers": "512MB", "max_wal_size": "4GB"}

STOCK_DATABASES = (8, 9, 10)
"""Broker and results of stock Celery, and the cache of the bare operations, on the same Valkey."""

SESSIONS = 10_000
"""As many as the bars were set with. Writers that meet on one session are measured by ``--hot``."""
READY_SECONDS = 60.0
CONTEXT = {"note": "x" * 900}


class Ground:
    """Everything that runs; a context manager that ends all processes and removes the files.

    ``start`` is made of steps (``servers``, ``fleet``, ``stock``, ``make_sessions``) for measurements that
    need something between them or not all of them. ``lines``: what of the Procfile runs.
    """

    def __init__(self, lines: Sequence[str] = LINES, settings: dict[str, str] | None = None) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="fleet-bench-"))
        self.home.chmod(0o755)
        self.lines = lines
        self.postgres = EmbeddedPostgres(self.home, settings=POSTGRES | (settings or {}))
        self.valkey = EmbeddedValkey(self.home)
        self.workers: list[ManagedProcess] = []
        self.stock: list[ManagedProcess] = []
        self.peers: list[ManagedProcess] = []
        self.ids: list[str] = []

    def start(self, sessions: int = SESSIONS, *, stock: bool = False) -> None:
        """Servers, the fleet's processes, two stock workers if wanted, and the sessions."""
        self.servers()
        self.fleet()
        if stock:
            self.stock_workers()
        self.make_sessions(sessions)

    def servers(self) -> None:
        """PostgreSQL and Valkey, migrated."""
        self.postgres.start()
        self.valkey.start()
        self.redis_url = f"{self.valkey.url}/0"
        environ = process_environment(os.environ)
        for name in [name for name in environ if name.startswith("FLEET_")]:
            del environ[name]
        environ |= {
            "FLEET_DATABASE_URL": self.postgres.url,
            "FLEET_REDIS_URL": self.redis_url,
            "FLEET_LOG_LEVEL": "WARNING",
            "FLEET_SESSION_TIMEOUT_SECONDS": "86400",
        }
        migrate(Settings.load(environ))
        broker, results, cache = (f"{self.valkey.url}/{number}" for number in STOCK_DATABASES)
        self.environ = environ | {
            "BENCH_BROKER": broker,
            "BENCH_RESULTS": results,
            "BENCH_CACHE": cache,
            "BENCH_DATABASE": self.postgres.url,
        }

    def fleet(self) -> None:
        """The lines of the Procfile; returns when a worker answers."""
        for line in self.lines:
            self.add(line)
        with Fleet.connect(self.redis_url) as fleet:
            fleet.call("session.count", READY_SECONDS)

    def add(self, line: str) -> ManagedProcess:
        """One more process of a line of the Procfile."""
        number = len(self.workers) + 1
        process = make_process(read_procfile()[line], number, environ=self.environ, logs=self.home / "logs")
        self.workers.append(process)
        process.start()
        return process

    def stock_workers(self) -> None:
        """Two workers of an unmodified Celery."""
        for number in (1, 2):
            command = ["celery", "-A", "benchmarks.bench.stock", "worker", "--pool", "solo", "-l", "error"]
            command += ["-n", f"stock{number}@bench", "--without-gossip", "--without-mingle"]
            self.stock.append(self.process(f"stock.{number}", sys.executable, ["-m", *command]))

    def process(self, name: str, python: str | Path, arguments: Sequence[str], **environ: str) -> ManagedProcess:
        """One more process, started in the checkout, that ends with this one."""
        command, log = [str(python), *arguments], self.home / "logs" / f"{name}.log"
        started = ManagedProcess(name, command, env=self.environ | environ, cwd=ROOT, log=log)
        started.start()
        return started

    def make_sessions(self, count: int, **more: Any) -> None:
        """Active sessions with 1 KB of context, by the fleet itself."""
        with Fleet.connect(self.redis_url) as fleet, fleet.batch() as batch:
            made = [batch.add("session.create", status="active", context=CONTEXT, **more) for _ in range(count)]
            self.ids += [one.result()["id"] for one in made]

    def cpu(self) -> dict[str, float]:
        """Seconds of processor time so far, by part."""
        return {name: sum(used_by(one.pid) for one in processes) for name, processes in self.parts().items()}

    def parts(self) -> dict[str, list[ManagedProcess]]:
        """The processes that run, by the name of their column."""
        parts = {
            "postgres": [one for one in (self.postgres.process,) if one is not None],
            "valkey": [one for one in (self.valkey.process,) if one is not None],
            "workers": [one for one in self.workers if not one.name.startswith("relay")],
            "relay": [one for one in self.workers if one.name.startswith("relay")],
            "stock": self.stock,
            "peers": self.peers,
        }
        return {name: part for name, part in parts.items() if part}

    def rest(self, seconds: float) -> None:
        """Let the relay come to its end, so that one shape's rest is not the next one's load."""
        time.sleep(seconds)

    def close(self) -> None:
        """Ends all processes and removes the files."""
        for process in (*self.stock, *self.peers):
            process.kill_group()
            process.wait(10)
        for process in self.workers:
            process.stop(10)
        self.valkey.stop()
        self.postgres.remove()
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def used_by(pid: int) -> float:
    """Seconds of processor time of a process and its children, also of those that have ended."""
    return sum(_read(one, lambda process: sum(process.cpu_times()[:4])) for one in _family(pid))


def memory_of(pid: int) -> int:
    """Bytes of memory of a process and its children that are in RAM (RSS; shared pages count for each)."""
    return int(sum(_read(one, lambda process: process.memory_info().rss) for one in _family(pid)))


def _read(process: psutil.Process, what: Callable[[psutil.Process], float]) -> float:
    """A figure of a process; 0 where it has ended since it was found."""
    try:
        return what(process)
    except psutil.NoSuchProcess:
        return 0


def _family(pid: int) -> list[psutil.Process]:
    try:
        found = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        return [one for one in found if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    except psutil.Error:
        return []
