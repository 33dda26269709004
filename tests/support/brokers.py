"""A Redis of its own with plain Celery workers around it, for tests of the broker channel alone."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal

import redis
from celery import Celery
from kombu import Connection

from tests.support.running import clean_environment
from tests.support.servers import new_home, private_valkey
from tests.support.waiting import eventually
from workers.embedded import EmbeddedValkey
from workers.home import ROOT
from workers.processes import ManagedProcess
from workers.supervisor.supervisor import process_environment

Kind = Literal["safe", "stock"]

TRANSPORTS = {"safe": "broker.transport:SafeTransport", "stock": "kombu.transport.redis:Transport"}
FAST = {
    "visibility_timeout": 30,
    "unacked_restore_interval": 1,
    "unacked_restore_throttle": 1,
    "unacked_restore_limit": 500,
    "health_check_interval": 5,
    "socket_timeout": 5,
    "socket_connect_timeout": 3,
}
"""Transport options of the tests: as the fleet's, with shorter times."""


class BrokerBench:
    """One Redis server; the queues are in database 0, what tasks did in database 1 of ``notes``.

    ``broker`` may name another server or a proxy in front of this one.
    """

    def __init__(self, url: str, notes: str) -> None:
        self.url = url
        self.notes_url = notes
        self.logs = new_home()
        self.workers: list[ManagedProcess] = []

    @cached_property
    def broker(self) -> redis.Redis:
        """The queues; answers are bytes."""
        return redis.Redis.from_url(self.url, socket_timeout=5)

    @cached_property
    def notes(self) -> redis.Redis:
        """What tasks did; answers are text."""
        return redis.Redis.from_url(self.notes_url, decode_responses=True, socket_timeout=5)

    def connection(self, kind: Kind = "safe", url: str | None = None, **options: Any) -> Connection:
        """A kombu connection in this process."""
        return Connection(url or self.url, transport=TRANSPORTS[kind], transport_options={**FAST, **options})

    def app(self, kind: Kind = "stock", url: str | None = None, **conf: Any) -> Celery:
        """A Celery app in this process; a plain producer by default."""
        app = Celery("bench", broker=url or self.url, set_as_current=False)
        app.conf.update(broker_transport=TRANSPORTS[kind], task_ignore_result=True, **conf)
        return app

    def worker(
        self, *arguments: str, kind: Kind = "safe", url: str | None = None, wait: bool = True, **conf: Any
    ) -> ManagedProcess:
        """A worker process, solo unless ``arguments`` say otherwise; ``conf`` are Celery settings."""
        options = {**FAST, **conf.pop("broker_transport_options", {})}
        setup = {
            "broker": url or self.url,
            "notes": self.notes_url,
            "channel": kind,
            "conf": {"broker_transport_options": options, **conf},
        }
        number = len(self.workers) + 1
        given = arguments or ("--pool", "solo")
        command = ["-m", "celery", "-A", "tests.support.broker_app", "worker", *given, "-n", f"w{number}@bench"]
        process = ManagedProcess(
            f"w{number}",
            [sys.executable, *command, "--without-gossip", "--without-mingle", "-l", "INFO"],
            env=process_environment(clean_environment()) | {"BROKER_TEST": json.dumps(setup)},
            cwd=ROOT,
            log=self.logs / f"w{number}.log",
        )
        process.start()
        self.workers.append(process)
        if wait:
            self.ready(process)
        return process

    def ready(self, process: ManagedProcess, timeout: float = 60) -> None:
        """Until the worker takes messages."""

        def is_ready() -> bool:
            assert process.running, process.log_text()
            return "ready." in process.log_text()

        eventually(is_ready, timeout, every=0.05)

    def done(self) -> dict[str, int]:
        """Which ids ran to their end, how often."""
        return {id_: int(count) for id_, count in self.notes.hgetall("done").items()}

    def settled(self) -> bool:
        """Whether nothing is queued and nothing unacknowledged."""
        kept = ("_kombu.", "_fleet.")
        with_content = [key.decode() for key in self.broker.keys("*")]
        return not [key for key in with_content if not any(part in key for part in kept)]

    def quarantine(self) -> list[bytes]:
        """The entries of the quarantine list."""
        return list(self.broker.lrange("_fleet.quarantine", 0, -1))

    def kill(self, process: ManagedProcess) -> None:
        """SIGKILL, children and all; returns when it is gone."""
        process.kill_group(signal.SIGKILL)
        process.wait(10)

    def end_workers(self) -> None:
        """Ends the workers of a test."""
        for process in self.workers:
            process.kill_group(signal.SIGKILL)
        for process in self.workers:
            process.stop(5, signal.SIGKILL)
        self.workers.clear()

    def clear(self) -> None:
        """Ends the workers and empties the server."""
        self.end_workers()
        self.broker.flushall()

    def close(self) -> None:
        self.end_workers()
        for name in ("broker", "notes"):
            if name in self.__dict__:
                with contextlib.suppress(redis.RedisError):
                    self.__dict__[name].close()
        shutil.rmtree(self.logs, ignore_errors=True)


class OtherServer(EmbeddedValkey):
    """The server whose binary BROKER_TEST_SERVER names, set up as the embedded one; Redis 7.0 or newer."""

    def _make(self, tether: signal.Signals | None) -> ManagedProcess:
        binary = os.environ["BROKER_TEST_SERVER"]
        command = [binary, str(self._config)]
        env = {"PATH": os.defpath, "LC_ALL": "C"}
        return ManagedProcess(self.name, command, env=env, cwd=self.data, log=self.log, tether=tether)


@contextlib.contextmanager
def valkey() -> Iterator[EmbeddedValkey]:
    """A Valkey server of its own, or another where BROKER_TEST_SERVER names one."""
    with private_valkey(OtherServer if "BROKER_TEST_SERVER" in os.environ else EmbeddedValkey) as server:
        yield server


@contextlib.contextmanager
def bench_on(server: EmbeddedValkey) -> Iterator[BrokerBench]:
    """A bench on an embedded server; emptied at the end."""
    bench = BrokerBench(f"{server.url}/0", f"{server.url}/1")
    try:
        yield bench
    finally:
        bench.close()
