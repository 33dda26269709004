"""The embedded servers of ``./fleet up``: which are needed, kept running beside the processes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from workers.embedded import EmbeddedPostgres, EmbeddedValkey, ServerError
from workers.embedded.server import EmbeddedServer
from workers.home import Home
from workers.settings import Settings

REDIS_SETTINGS = ("redis_url", "redis_host", "broker_url", "cache_url", "beat_url", "result_url")
"""Any of these says that there is a Redis to use."""

PAUSE = 2.0
"""Seconds between the attempts to start a server that ended by itself."""


class LocalServers:
    """Starts those that no setting names; restarts one that ends. Use from one thread, the main one."""

    def __init__(self, home: Home, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
        self.home = home
        self.say = say
        self.given = without_own(home, environ)
        """``environ`` without URLs of our own servers, as ``fleet env`` prints them into a shell."""
        named = Settings.load(self.given).model_fields_set
        self.postgres = None if "database_url" in named else EmbeddedPostgres(home.path)
        self.valkey = None if named & set(REDIS_SETTINGS) else EmbeddedValkey(home.path)
        self.restarts: dict[str, int] = {}
        self._due = 0.0

    @property
    def all(self) -> list[EmbeddedServer]:
        return [server for server in (self.postgres, self.valkey) if server is not None]

    def start(self) -> None:
        """Starts what is needed; :class:`ServerError` when one cannot be started."""
        for server in self.all:
            began = time.monotonic()
            server.start()
            self.say(f"{server.name} ready on port {server.port} after {time.monotonic() - began:.1f} s")
        self._record()

    def environ(self) -> dict[str, str]:
        """What was given, completed by the URLs of our servers."""
        own = {}
        if self.postgres is not None:
            own["FLEET_DATABASE_URL"] = self.postgres.url
        if self.valkey is not None:
            own["FLEET_REDIS_URL"] = f"{self.valkey.url}/0"
        return {**self.given, **own}

    def check(self) -> None:
        """Starts a server again that ended by itself."""
        now = time.monotonic()
        for server in self.all:
            if not server.running and now >= self._due:
                self._due = now + PAUSE
                self.say(f"{server.name} ended; starting it again")
                try:
                    server.start()
                except (ServerError, OSError) as error:
                    self.say(str(error))
                    continue
                self.restarts[server.name] = self.restarts.get(server.name, 0) + 1
                self._record()

    def stop(self) -> None:
        """Stops ours cleanly, PostgreSQL last."""
        for server in reversed(self.all):
            with contextlib.suppress(OSError):  # it has ended; that a full disk does not keep it changes nothing
                server.stop()
        with contextlib.suppress(OSError):
            self._record()

    def _record(self) -> None:
        with self.home.state.change("servers") as section:
            section.clear()
            section.update({server.name: self._entry(server) for server in self.all})

    def _entry(self, server: EmbeddedServer) -> dict[str, Any]:
        return {
            "port": server.port if server.running else None,
            "restarts": self.restarts.get(server.name, 0),
            "log": str(server.log),
        }


def without_own(home: Home, environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` without the variables that lead to this home's embedded servers.

    Somebody who ran ``eval "$(./fleet env)"`` still means the embedded pair by ``./fleet up``.
    """
    passwords = {home.state.section(name).get("password") for name in ("postgres", "valkey")} - {None}
    return {key: value for key, value in environ.items() if not _password(value) & passwords}


def _password(value: str) -> set[str]:
    try:
        found = urlsplit(value).password if "://" in value else None
    except ValueError:
        return set()
    return {found} if found else set()
