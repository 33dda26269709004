"""pytest-celery's nodes as local processes: no container engine, the same API for tests.

pytest-celery drives whatever its "containers" do when they are killed, restarted or asked for their log.
These do it to processes of ours: the embedded servers and the worker of the Procfile.
"""

from __future__ import annotations

import shutil
import signal
import socket
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import redis
from pytest_celery import CeleryTestContainer, CeleryTestWorker, CeleryWorkerContainer

from tests.support.servers import CopiedPostgres, new_home
from tests.support.waiting import eventually
from workers.embedded import EmbeddedPostgres, EmbeddedValkey
from workers.embedded.server import EmbeddedServer
from workers.processes import ManagedProcess
from workers.supervisor import make_process, read_procfile


class LocalProcess(CeleryTestContainer):  # type: ignore[misc]
    """What pytest-celery asks of a container, answered by one process in a folder of its own.

    The constructors of the bases are left out on purpose: they want an engine.
    """

    def __init__(self, home: Path) -> None:
        self.home = home

    @property
    @abstractmethod
    def process(self) -> ManagedProcess:
        """The one that runs."""

    @abstractmethod
    def start(self) -> None:
        """Starts it and returns when it is ready."""

    @property
    def name(self) -> str:
        return self.process.name

    @property
    def id(self) -> str:
        return f"{self.process.pid:012d}"

    @property
    def status(self) -> str:
        return "running" if self.process.running else "exited"

    @property
    def attrs(self) -> dict[str, Any]:
        return {"Id": self.id, "State": {"Status": self.status}, "Config": {"Hostname": "127.0.0.1"}}

    def ready(self) -> bool:
        return self.process.running

    def reload(self) -> None:
        """Nothing is cached here."""

    def logs(self) -> str:
        return self.process.log_text()

    def kill(self, signal: str | int = "SIGKILL") -> None:
        """Signals the process; waits for the end that SIGKILL brings."""
        number = _number(signal)
        self.process.kill(number)
        if number == _number("SIGKILL"):
            self.process.kill_group()
            self.process.wait(10)

    def restart(self, timeout: float = 10) -> None:
        """Stops it if it runs, within ``timeout`` seconds, starts it with the same data and waits until ready."""
        self.process.stop(timeout)
        self.start()

    def exec_run(self, command: str) -> tuple[int, bytes]:
        """Containers only: there is no other machine to run it on."""
        raise RuntimeError(f"{self.name} is no container: nothing can run {command!r} in it")

    def teardown(self) -> None:
        self.process.kill(_number("SIGCONT"))  # a test may have frozen it
        self.process.stop(5)
        shutil.rmtree(self.home, ignore_errors=True)


def _number(name: str | int) -> int:
    return int(getattr(signal, name) if isinstance(name, str) else name)


class LocalServer(LocalProcess):
    """An embedded server; keeps port, password and data over ``restart``."""

    def __init__(self, server: EmbeddedServer) -> None:
        super().__init__(server.home)
        self.server = server
        self.start()

    def start(self) -> None:
        self.server.start()

    @property
    def process(self) -> ManagedProcess:
        process = self.server.process
        assert process is not None
        return process

    def restart(self, timeout: float = 10) -> None:
        """As the base, with the server's own clean stop: PostgreSQL's SIGTERM would wait for its clients."""
        self.server.stop(timeout)
        self.start()

    def ready(self) -> bool:
        return self.server.answers()


class LocalValkey(LocalServer):
    """A broker or result backend of its own."""

    server: EmbeddedValkey

    def __init__(self) -> None:
        super().__init__(EmbeddedValkey(new_home()))

    @property
    def celeryconfig(self) -> dict[str, Any]:
        url = f"{self.server.url}/0"
        return {"url": url, "host_url": url, "hostname": "127.0.0.1", "port": self.server.port, "vhost": "0"}

    @property
    def client(self) -> redis.Redis:
        return self.server.client()


class LocalPostgres(LocalServer):
    """The database: a node outside pytest-celery's clusters."""

    server: EmbeddedPostgres

    def __init__(self) -> None:
        super().__init__(CopiedPostgres(new_home()))

    @property
    def celeryconfig(self) -> dict[str, Any]:
        return {"url": self.server.url, "host_url": self.server.url}

    def teardown(self) -> None:
        self.server.remove()
        super().teardown()


class LocalWorker(LocalProcess, CeleryWorkerContainer):  # type: ignore[misc]
    """A worker started by its line of the Procfile; ``env`` is its whole environment."""

    def __init__(self, env: Mapping[str, str], line: str = "sessions") -> None:
        home = new_home()
        super().__init__(home)
        self._process = make_process(read_procfile()[line], 1, environ=env, logs=home)
        self.start()

    @property
    def process(self) -> ManagedProcess:
        return self._process

    def start(self) -> None:
        self.process.start()
        eventually(self.ready, 60)

    def ready(self) -> bool:
        if not self.process.running:
            raise RuntimeError(f"the worker ended with {self.process.returncode}:\n{self.logs()}")
        return "ready." in self.logs()

    @classmethod
    def worker_name(cls) -> str:
        return "sessions.1"

    @classmethod
    def worker_queue(cls) -> str:
        return "sessions"


class FleetWorker(CeleryTestWorker):  # type: ignore[misc]
    """A worker node named as the Procfile names it."""

    def hostname(self) -> str:
        return f"{self.worker_name}@{socket.gethostname()}"
