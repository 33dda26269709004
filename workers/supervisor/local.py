"""``./fleet up``: a whole fleet on this machine, from its servers to a first answered operation."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from types import FrameType

from workers.embedded import ServerError
from workers.home import Home
from workers.preflight import check_servers
from workers.processes import Identity
from workers.settings import Settings
from workers.settings_environment import PREFIX
from workers.supervisor.lock import FleetLock
from workers.supervisor.probe import Probe
from workers.supervisor.procfile import RELEASE, Scale, read_procfile
from workers.supervisor.servers import LocalServers
from workers.supervisor.supervisor import Supervisor, make_process
from workers.supervisor.sweep import sweep

READY_WITHIN = 90.0
FORCE_AFTER = 5.0
"""Seconds on top of ``shutdown_grace`` before what still runs is killed."""

FLOWER_CANNOT_START = 2
"""Flower's exit code where its settings or its port do not let it start."""


class StartFailed(Exception):
    """The fleet did not come up; the text is for the person who started it, everything is stopped again."""

    def __init__(self, text: str, exit_code: int = 1) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class LocalFleet:
    """One run of a fleet in this process, the main thread: :meth:`run` returns when it was told to stop."""

    def __init__(self, home: Home, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
        self.home = home
        self._say = say
        self._given = dict(environ)
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._supervisor: Supervisor | None = None
        self._servers: LocalServers | None = None

    def run(self, on_ready: Callable[[], None]) -> None:
        """Starts everything, calls ``on_ready``, keeps it running until SIGTERM, SIGINT or SIGHUP, stops it.

        Raises AlreadyRunning, SettingsError, ServerError, :class:`StartFailed`; nothing runs then.
        """
        with FleetLock(self.home):
            self._phase("starting")
            for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(name, self._told)
            try:
                self._begin()
                if not self._stop.is_set():
                    on_ready()
                    self._phase("ready")  # last: who waits for it has then been told all
                while not self._stop.wait(0.2):
                    # A disk that is full for a while must not end what runs; the next look tries again.
                    with contextlib.suppress(OSError):
                        self._look()
            finally:
                self._end()
        self.say("stopped")

    def _begin(self) -> None:
        left = sweep(self.home)
        if left:
            self.say(f"ended what an earlier run left behind: {', '.join(left)}")
        lines = read_procfile()
        scale = Scale.parse(self._given.get("FLEET_SCALE", ""), set(lines) - {RELEASE})
        self._servers = LocalServers(self.home, self._given, self.say)
        if scale.of("flower") > 0:
            check_flower_port(self._servers.given)
        self._servers.start()
        environ = complete_environment(self.home, self._servers.environ())
        settings = Settings.load(environ)
        check_servers(settings, "database_url", "broker_url", "cache_url", "beat_url", "result_url")
        self._keep(environ)
        self._release(environ)
        self._supervisor = Supervisor(self.home, lines, scale, environ, self.say)
        self.say("starting " + ", ".join(one.process.name for one in self._supervisor.all))
        self._supervisor.start()
        self._wait(settings, with_flower=scale.of("flower") > 0, with_worker=scale.of("sessions") > 0)

    def _keep(self, environ: Mapping[str, str]) -> None:
        """For ``fleet env`` and whatever else asks for the fleet that runs here."""
        with self.home.state.change("environment") as kept:
            kept.clear()
            kept.update({key: value for key, value in environ.items() if key.startswith(PREFIX)})

    def _release(self, environ: Mapping[str, str]) -> None:
        process = make_process(read_procfile()[RELEASE], 1, environ=environ, logs=self.home.logs)
        process.start()
        while process.running and not self._stop.wait(0.05):
            pass
        if self._stop.is_set():
            process.stop(10)
            return
        words = process.log_text().strip().splitlines()
        if process.returncode:
            raise StartFailed(words[-1] if words else f"the release step failed: see {process.log}.", 2)
        self.say(words[-1] if words else "database ready")

    def _wait(self, settings: Settings, *, with_flower: bool, with_worker: bool) -> None:
        if not with_worker:
            return
        probe = Probe(settings, with_flower)
        began = time.monotonic()
        probe.start()
        while not probe.done.is_set() and not self._stop.wait(0.1):
            self._look()
            if self._supervisor is not None and FLOWER_CANNOT_START in self._supervisor.exits("flower"):
                probe.settings = self._move_flower(self._supervisor, probe.settings)
            if time.monotonic() - began > READY_WITHIN:
                probe.stop()
                raise StartFailed(
                    f"{probe.missing} within {READY_WITHIN:g} s ({probe.trouble}): see the logs in {self.home.logs}."
                )
        probe.stop()
        if probe.done.is_set():
            self.say(f"a session was created and deleted after {time.monotonic() - began:.1f} s")

    def _move_flower(self, supervisor: Supervisor, settings: Settings) -> Settings:
        """Between the choice of its port and its start another program may take it: then its next start is on a
        free one. A port that somebody set stays."""
        assert self._servers is not None  # noqa: S101  (they are started first)
        environ = complete_environment(self.home, self._servers.environ())
        moved = Settings.load(environ)
        if moved.flower_port != settings.flower_port:
            self.say(f"port {settings.flower_port} was taken meanwhile: Flower moves to {moved.flower_port}")
            self._keep(environ)
            supervisor.give("flower", FLEET_FLOWER_PORT=str(moved.flower_port))
        return moved

    def _look(self) -> None:
        if self._servers is not None:
            self._servers.check()
        if self._supervisor is not None:
            self._supervisor.check()

    def say(self, text: str) -> None:
        """Tells it, if it can be written; where nobody reads any more the fleet stops."""
        try:
            self._say(text)
        except BrokenPipeError:
            self._stop.set()
        except OSError:
            pass  # a full disk

    def _end(self) -> None:
        with contextlib.suppress(OSError):
            self._phase("stopping")
        if self._supervisor is not None:
            grace = Settings.load(self._servers.given if self._servers else {}).shutdown_grace + FORCE_AFTER
            self.say("stopping")
            killed = self._supervisor.stop(grace, self._hurry.is_set)
            if killed:
                self.say(f"had to kill {', '.join(killed)}")
        if self._servers is not None:
            self._servers.stop()
        with contextlib.suppress(OSError):
            self._phase("stopped")

    def _told(self, _number: int, _frame: FrameType | None) -> None:
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def _phase(self, phase: str) -> None:
        own = Identity.of(os.getpid())
        with self.home.state.change("fleet") as section:
            section["phase"] = phase
            section["identity"] = own.to_json() if own else None
            section["since"] = time.time()


def complete_environment(home: Home, environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` with what ``up`` chooses where nothing is set: Flower's password and a free port for it.

    Logs are text: on this machine people read them, with ``./fleet logs``.
    """
    chosen: dict[str, str] = {"FLEET_HOME": str(home.path)}
    if not environ.get("FLEET_LOG_FORMAT"):
        chosen["FLEET_LOG_FORMAT"] = "text"
    with home.state.change("flower") as kept:
        if not environ.get("FLEET_FLOWER_PASSWORD"):
            chosen["FLEET_FLOWER_PASSWORD"] = kept.setdefault("password", secrets.token_hex(12))
        if not environ.get("FLEET_FLOWER_PORT"):
            host = environ.get("FLEET_FLOWER_HOST") or "127.0.0.1"
            kept["port"] = _flower_port(host, [kept.get("port"), 5555])
            chosen["FLEET_FLOWER_PORT"] = str(kept["port"])
    return {**environ, **chosen}


def check_flower_port(environ: Mapping[str, str]) -> None:
    """Raises :class:`StartFailed` when somebody set a port on which Flower cannot listen."""
    settings = Settings.load(environ)
    if "flower_port" not in settings.model_fields_set:
        return
    try:
        _listen(settings.flower_host, settings.flower_port)
    except OSError as error:
        raise StartFailed(
            f"FLEET_FLOWER_PORT is {settings.flower_port}, on which Flower cannot listen ({error.strerror}): "
            "set another, or remove it, and a free one is chosen.",
            2,
        ) from None


def _flower_port(host: str, wished: list[int | None]) -> int:
    for port in [*filter(None, wished), 0]:
        with contextlib.suppress(OSError):
            return _listen(host, port)
    raise ServerError(f"FLEET_FLOWER_HOST is {host!r}, on which nothing can listen: correct or remove it.")


def _listen(host: str, port: int) -> int:
    """The port, when one can listen on it now; 0 is any. OSError when not."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return int(probe.getsockname()[1])
