"""What the embedded servers share: a place, a port and password that stay, a process, a wait until ready."""

from __future__ import annotations

import abc
import contextlib
import secrets
import signal
import socket
import time
from pathlib import Path
from typing import Any, ClassVar

from workers.processes import Identity, ManagedProcess
from workers.state import StateFile

HOST = "127.0.0.1"

PORTS = range(15_000, 32_000)
"""Below those that systems give to outgoing connections: one of these would hold the port of a stopped server."""

START_TRIES = 3


class ServerError(Exception):
    """An embedded server cannot be started; the text is one sentence that says what to do."""


class EmbeddedServer(abc.ABC):
    """A server process of ours on loopback TCP, with its files under ``home``.

    ``home/data/{name}`` holds its data, ``home/logs/{name}.log`` its log, ``home/state.json`` its port and
    generated password, which stay the same over restarts. ``start`` finds the data of an earlier run.
    ``tether`` ends the server with the process that started it. Not thread-safe.
    """

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]

    def __init__(self, home: Path, *, tether: bool = True) -> None:
        self.home = home.absolute()
        self.log = self.home / "logs" / f"{self.name}.log"
        self.tether = tether
        self.process: ManagedProcess | None = None
        self._state = StateFile(self.home / "state.json")

    @property
    @abc.abstractmethod
    def url(self) -> str:
        """How to reach it, with the password; known after the first start."""

    @abc.abstractmethod
    def _prepare(self) -> None:
        """Makes what must exist before the first start."""

    @abc.abstractmethod
    def _make(self, tether: signal.Signals | None) -> ManagedProcess:
        """The process for this port, not started."""

    @abc.abstractmethod
    def answers(self) -> bool:
        """Whether it accepts our password and commands right now."""

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1; known after the first start."""
        return int(self._state.section(self.name)["port"])

    @property
    def password(self) -> str:
        """Generated once."""
        return str(self._state.section(self.name)["password"])

    @property
    def running(self) -> bool:
        """Whether the process that this object started runs."""
        return self.process is not None and self.process.running

    def start(self, timeout: float = 60.0) -> None:
        """Starts it and returns when it answers; returns at once when it runs.

        Raises :class:`ServerError` when it ends instead, or after ``timeout`` seconds.
        """
        if self.running:
            return
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.end_previous()
        for tries_left in range(START_TRIES - 1, -1, -1):
            with self._state.change(self.name) as kept:
                kept.setdefault("password", secrets.token_hex(20))
                kept["port"] = _port(kept.get("port"))
            self._prepare()
            self.process = self._make(self.stop_signal if self.tether else None)
            self.process.start()
            self._remember(self.process.identity)
            try:
                self._wait_until_ready(time.monotonic() + timeout)
            except ServerError:
                # Somebody may have taken the port between our look and the server's.
                if tries_left and not _free(self.port):
                    continue
                raise
            return

    def _wait_until_ready(self, until: float) -> None:
        assert self.process is not None  # noqa: S101  (start made it)
        while not self.answers():
            if not self.process.running:
                raise ServerError(f"the embedded {self.name} ended while starting: {self._last_words()}")
            if time.monotonic() > until:
                self.process.stop(5)
                raise ServerError(f"the embedded {self.name} did not answer in time: see {self.log}.")
            time.sleep(0.03)

    def _last_words(self) -> str:
        text = self.process.log_text() if self.process else ""
        lines = [line for line in text.splitlines() if line.strip()]
        return f"{lines[-1].strip() if lines else 'it wrote nothing'} (see {self.log})."

    def _remember(self, identity: Identity | None) -> None:
        with self._state.change(self.name) as kept:
            kept["process"] = identity.to_json() if identity else None

    def end_previous(self) -> None:
        """Ends a server that an earlier, killed starter left behind over the same data; nothing else."""
        previous = Identity.from_json(self._state.section(self.name).get("process"))
        if previous is None or not previous.alive() or (self.process and self.process.pid == previous.pid):
            return
        previous.signal(self.stop_signal)
        until = time.monotonic() + 20
        while previous.alive():
            if time.monotonic() > until:
                for member in [previous, *previous.members()]:
                    member.signal(signal.SIGKILL)
            time.sleep(0.03)

    def stop(self, timeout: float = 30.0) -> None:
        """Ends it cleanly, data on disk; by SIGKILL after ``timeout`` seconds. Nothing when it is down."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.resume()
            self.process.stop(timeout, self.stop_signal)
        self._remember(None)

    def kill(self) -> None:
        """SIGKILL to all its processes at once, as a crash of the machine would; waits until they are gone."""
        if self.process is None or self.process.identity is None:
            return
        everyone = [self.process.identity, *self.process.identity.members()]
        for one in everyone:
            one.signal(signal.SIGKILL)
        self.process.wait(10)
        while any(one.alive() for one in everyone):
            time.sleep(0.01)

    def pause(self) -> None:
        """Freezes all its processes (SIGSTOP): connections stay open and nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Ends a :meth:`pause`."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: int) -> None:
        if self.process is not None and self.process.identity is not None and self.process.running:
            for one in [self.process.identity, *self.process.identity.members()]:
                one.signal(number)

    def restart(self) -> None:
        """Stops and starts it on the same port."""
        self.stop()
        self.start()


def _port(kept: Any) -> int:
    """The port of the last start when it is free, else a free one; another program may take it meanwhile."""
    if isinstance(kept, int) and _free(kept):
        return kept
    return next(port for port in iter(lambda: secrets.choice(PORTS), None) if _free(port))


def _free(port: int) -> bool:
    with socket.socket() as probe:
        # Without it, connections of the last run that still linger would make us change the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True
