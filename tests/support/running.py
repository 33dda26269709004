"""A fleet of real processes under test, started as the supervisor starts them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import redis
from sqlalchemy import Engine, create_engine

from sessionfleet import Fleet
from tests.support.servers import Servers, new_home
from tests.support.waiting import eventually
from workers.migrate import migrate
from workers.processes import ManagedProcess
from workers.settings import Settings
from workers.settings_environment import ALIASES, PREFIX
from workers.supervisor import make_process, read_procfile

WORKERS = ("sessions", "maintenance")
OPEN: list[RunningFleet] = []
"""Fleets that are not closed yet, for the report of a failed test."""

STUBBORN: list[str] = []
"""Processes that did not end by themselves, with their last lines; the run reports them."""

QUIET = {"FLEET_ENVIRONMENT": "test", "FLEET_LOG_FORMAT": "text"}


def clean_environment() -> dict[str, str]:
    """Ours without anything that sets up a fleet."""
    return {k: v for k, v in os.environ.items() if not k.startswith(PREFIX) and k not in ALIASES}


class RunningFleet:
    """A migrated database, its Redis databases and the processes started on them.

    ``env`` is the environment the processes get (settings by name, e.g. FLEET_DATABASE_URL), ``settings``
    the same read. Processes end with the test run, however that ends; start them from the main thread
    (on Linux a process is ended with the thread that started it).
    """

    def __init__(self, servers: Servers, database_url: str | None = None, **env: str) -> None:
        self.servers = servers
        self.home = new_home()
        self.env = {
            **clean_environment(),
            **QUIET,
            "FLEET_DATABASE_URL": database_url or servers.migrated_database(),
            "FLEET_REDIS_URL": servers.redis_url,
            "FLEET_FLOWER_PASSWORD": "flower-password-of-tests",
            **env,
        }
        self.settings = Settings.load(self.env)
        self.processes: list[ManagedProcess] = []
        migrate(self.settings)
        OPEN.append(self)

    def start(self, line: str, *, wait: bool = True, **env: str) -> ManagedProcess:
        """One more process of a Procfile line, with more settings in ``env``; waits until it is ready.

        Its methods: ``kill(signal)``, ``wait(timeout)``, ``stop(grace)``, ``log_text()``, ``running``, ``pid``.
        """
        number = 1 + sum(1 for one in self.processes if one.name.startswith(f"{line}."))
        environ: Mapping[str, str] = {**self.env, **env}
        process = make_process(read_procfile()[line], number, environ=environ, logs=self.logs)
        self.processes.append(process)
        process.start()
        if wait:
            self.ready(process)
        return process

    def restart(self, process: ManagedProcess) -> None:
        """Stops it if it runs, starts it again and waits until it is ready."""
        process.restart()
        self.ready(process)

    def ready(self, process: ManagedProcess, timeout: float = 60) -> None:
        """Waits until a worker takes messages; other processes only have to run."""
        if process.name.partition(".")[0] not in WORKERS:
            assert process.running, process.log_text()
            return

        def is_ready() -> bool:
            if not process.running:
                raise RuntimeError(f"{process.name} ended with {process.returncode}:\n{process.log_text()}")
            return "ready." in process.log_text()

        eventually(is_ready, timeout, every=0.05)

    def of(self, line: str) -> list[ManagedProcess]:
        """The running processes of a line, in the order they were started."""
        return [one for one in self.processes if one.name.startswith(f"{line}.") and one.running]

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    def call(self, name: str, /, timeout: float = 60, **arguments: Any) -> Any:
        """An operation through the client and a worker: its answer, or its typed error is raised."""
        return self.client.call(name, timeout, **arguments)

    @cached_property
    def client(self) -> Fleet:
        """A client of this fleet."""
        return Fleet.connect(
            broker_url=self.settings.broker_url,
            result_url=self.settings.result_url,
            cache_url=self.settings.cache_url,
            channel_prefix=self.settings.channel_prefix,
        )

    @cached_property
    def engine(self) -> Engine:
        """The database as its owner sees it; nothing to do with the workers' pools."""
        options = f"-c search_path={self.settings.database_schema} -c timezone=UTC"
        return create_engine(self.settings.database_url, pool_pre_ping=True, connect_args={"options": options})

    @cached_property
    def cache(self) -> redis.Redis:
        """The Redis database of documents, streams and channels; answers are text."""
        return redis.Redis.from_url(self.settings.cache_url, decode_responses=True)

    @cached_property
    def broker(self) -> redis.Redis:
        """The Redis database of the queues; answers are text."""
        return redis.Redis.from_url(self.settings.broker_url, decode_responses=True)

    def close(self, *, gently: bool = True) -> None:
        """Ends every process and closes what was opened; the servers stay.

        Gently is as ``./fleet down`` does it. With servers that end too nobody would see a difference but in
        time: then the processes are killed.
        """
        OPEN.remove(self)
        for name in ("client", "cache", "broker"):
            if name in self.__dict__:
                with contextlib.suppress(Exception):  # a test may have taken its server away
                    self.__dict__[name].close()
        if "engine" in self.__dict__:
            self.engine.dispose()
        running = [process for process in self.processes if process.running]
        for process in running:
            if gently:
                process.kill(signal.SIGTERM)
            else:
                process.kill_group(signal.SIGKILL)
        until = time.monotonic() + 10
        killed = [one for one in running if not one.stop(max(0.0, until - time.monotonic()), signal.SIGCONT)]
        STUBBORN.extend(f"{one.name}: {' | '.join(one.log_text().splitlines()[-3:])}" for one in killed)
        shutil.rmtree(self.home, ignore_errors=True)
