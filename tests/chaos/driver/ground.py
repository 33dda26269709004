"""The fleet under test: servers of its own, the processes of the Procfile, proxies before half of them."""

from __future__ import annotations

import random
import signal
import time
from dataclasses import dataclass, field

from sqlalchemy import make_url

from sessionfleet import Fleet
from tests.support.proxy import Proxy
from tests.support.running import WORKERS, RunningFleet
from tests.support.servers import embedded_servers
from workers.embedded import EmbeddedPostgres, EmbeddedValkey
from workers.processes import ManagedProcess

LINES = {"sessions": 2, "maintenance": 1, "relay": 2, "beat": 1}
BEHIND_PROXIES = ("sessions.2", "relay.1")
"""Processes whose way to both servers can be cut; the others talk to them directly."""

SETTINGS = {
    # Shorter than the defaults (300, 360 s), so that the last resort of redelivery acts within a run.
    "FLEET_TASK_TIME_LIMIT": "40",
    "FLEET_VISIBILITY_TIMEOUT": "60",
    # The fleet itself writes to sessions whose time is nearly up; here only the callers may.
    "FLEET_SESSION_TIMEOUT_SECONDS": "86400",
}

CANNOT_START = 2
"""Exit code of a process that finds a server away when it starts."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
"""Seconds before a dead process is started again, doubling while it does not get ready: as the supervisor does."""


@dataclass
class Watched:
    """A process, whether it has got ready since its last start, and how often it ended by itself after that."""

    process: ManagedProcess
    ready: bool = False
    killed: bool = False
    due: float = 0.0
    pause: float = FIRST_PAUSE
    ends: list[str] = field(default_factory=list)


class Ground:
    """Use it from the main thread only: processes end with the thread that started them."""

    def __init__(self) -> None:
        self.servers = embedded_servers()
        self.fleet = RunningFleet(self.servers, self.servers.database_url, **SETTINGS)
        self.sync_each_write()
        self.redis_proxy, self.database_proxy = Proxy(self.valkey.port), Proxy(self.postgres.port)
        for proxy in (self.redis_proxy, self.database_proxy):
            proxy.start()
        self.watched: list[Watched] = []
        for line, count in LINES.items():
            for number in range(1, count + 1):
                env = self._proxied() if f"{line}.{number}" in BEHIND_PROXIES else {}
                self.watched.append(Watched(self.fleet.start(line, wait=False, **env)))
        for one in self.watched:
            self.fleet.ready(one.process)
            one.ready = True

    @property
    def valkey(self) -> EmbeddedValkey:
        assert self.servers.valkey is not None
        return self.servers.valkey

    @property
    def postgres(self) -> EmbeddedPostgres:
        assert self.servers.postgres is not None
        return self.servers.postgres

    def sync_each_write(self) -> None:
        """With ``everysec`` a write may wait in Valkey's own memory for up to two seconds while the disk is busy
        with the sync before it, and die with the process after it was acknowledged. That loss is the server's."""
        with self.valkey.client() as client:
            client.config_set("appendfsync", "always")

    def _proxied(self) -> dict[str, str]:
        database = make_url(self.servers.database_url).set(port=self.database_proxy.port)
        return {
            "FLEET_DATABASE_URL": database.render_as_string(hide_password=False),
            "FLEET_REDIS_URL": self.proxied_redis_url,
        }

    @property
    def proxied_redis_url(self) -> str:
        return self.servers.redis_url.replace(f":{self.valkey.port}/", f":{self.redis_proxy.port}/")

    def client(self, *, proxied: bool = False) -> Fleet:
        """A client of its own, directly or by way of the proxy."""
        url = self.proxied_redis_url if proxied else self.servers.redis_url
        return Fleet.connect(url, submit_timeout=2.0)

    def of(self, line: str) -> list[Watched]:
        """The processes of a line that run."""
        return [one for one in self.watched if one.process.name.startswith(f"{line}.") and one.process.running]

    def one_of(self, line: str, choice: random.Random) -> Watched:
        """One of them; when all have ended, it is waited for until one is started again."""
        while not (running := self.of(line)):
            self.rest(0.1)
        return choice.choice(running)

    def kill(self, one: Watched) -> None:
        """SIGKILL, children and all; it is started again by :meth:`look`."""
        one.killed = True
        one.process.kill_group(signal.SIGKILL)
        one.process.wait(10)
        self.look()

    def look(self) -> None:
        """Starts again what has ended, as the supervisor does, and writes down who ended by himself."""
        now = time.monotonic()
        for one in self.watched:
            if one.process.running:
                if not one.ready:
                    one.ready = is_ready(one.process)
                    one.pause = FIRST_PAUSE if one.ready else one.pause
            elif one.due == 0:
                if one.ready and not one.killed and one.process.returncode != CANNOT_START:
                    last = one.process.log_text().splitlines()[-1:]
                    one.ends.append(f"{one.process.name} ended with {one.process.returncode}: {' '.join(last)}")
                one.due, one.pause = now + one.pause, min(one.pause * 2, LONGEST_PAUSE)
                one.ready = False
            elif now >= one.due:
                one.process.start()
                one.due, one.killed = 0, False

    def rest(self, seconds: float) -> None:
        """Lets time pass, looking after the processes."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.look()
            time.sleep(min(0.1, left))

    def all_ready(self) -> bool:
        self.look()
        return all(one.ready and one.process.running for one in self.watched)

    @property
    def ends(self) -> list[str]:
        """Who ended without being killed; not beat, which ends when it has lost its lock."""
        return [end for one in self.watched for end in one.ends if not end.startswith("beat.")]

    def close(self) -> None:
        self.fleet.close()
        for proxy in (self.redis_proxy, self.database_proxy):
            proxy.stop()
        self.servers.close()


def is_ready(process: ManagedProcess) -> bool:
    """Workers say so; the others have passed the checks of their start when they still run after ten seconds."""
    if process.name.partition(".")[0] in WORKERS:
        return "ready." in process.log_text()
    return time.time() - process.started_at > 10
