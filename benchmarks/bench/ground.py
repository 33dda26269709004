"""Servers, workers and sessions of a run, and the processor time each of them used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
STOCK_DATABASES = (8, 9)
"""Broker and results of stock Celery, on the same Valkey."""

SESSIONS = 1000
READY_SECONDS = 60.0
CONTEXT = {"note": "x" * 900}


class Ground:
    """Everything that runs; close it in any case."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="fleet-bench-"))
        self.home.chmod(0o755)
        self.postgres = EmbeddedPostgres(self.home, settings={"shared_buffers": "512MB", "max_wal_size": "4GB"})
        self.valkey = EmbeddedValkey(self.home)
        self.workers: list[ManagedProcess] = []
        self.stock: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Servers, then two session workers and a relay, two stock workers, and the sessions."""
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
        for number, line in enumerate(LINES, start=1):
            process = make_process(read_procfile()[line], number, environ=environ, logs=self.home / "logs")
            self.workers.append(process)
            process.start()
        broker, results = (f"{self.valkey.url}/{number}" for number in STOCK_DATABASES)
        environ |= {"BENCH_BROKER": broker, "BENCH_RESULTS": results, "BENCH_DATABASE": self.postgres.url}
        self.environ = environ
        for number in (1, 2):
            command = [sys.executable, "-m", "celery", "-A", "benchmarks.bench.stock", "worker", "--pool", "solo"]
            command += ["-n", f"stock{number}@bench", "-l", "error", "--without-gossip", "--without-mingle"]
            log = (self.home / f"stock{number}.log").open("wb")
            self.stock.append(subprocess.Popen(command, cwd=ROOT, env=environ, stdout=log, stderr=log))
        with Fleet.connect(self.redis_url) as fleet:
            fleet.call("session.count", READY_SECONDS)
            with fleet.batch() as batch:
                made = [batch.add("session.create", status="active", context=CONTEXT) for _ in range(SESSIONS)]
            self.ids = [one.result()["id"] for one in made]

    def cpu(self) -> dict[str, float]:
        """Seconds of processor time so far, by part."""
        parts = {
            "postgres": [self.postgres.process.pid],  # type: ignore[union-attr]
            "valkey": [self.valkey.process.pid],  # type: ignore[union-attr]
            "workers": [one.pid for one in self.workers if not one.name.startswith("relay")],
            "relay": [one.pid for one in self.workers if one.name.startswith("relay")],
            "stock": [one.pid for one in self.stock],
        }
        return {name: sum(map(used_by, pids)) for name, pids in parts.items()}

    def rest(self, seconds: float) -> None:
        """Let the relay come to its end, so that one shape's rest is not the next one's load."""
        time.sleep(seconds)

    def close(self) -> None:
        """Ends all processes and removes the files."""
        for one in self.stock:
            one.kill()
            one.wait()
        for process in self.workers:
            process.stop(10)
        self.valkey.stop()
        self.postgres.remove()
        shutil.rmtree(self.home, ignore_errors=True)


def used_by(pid: int) -> float:
    """Seconds of processor time of a process and its children."""
    total = 0.0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.Error:
        return 0.0
    for one in family:
        try:
            total += sum(one.cpu_times()[:2])
        except psutil.Error:
            continue
    return total
