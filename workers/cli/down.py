"""``fleet down``: stop everything that runs in this home."""

from __future__ import annotations

import signal
import time

import click

from workers.cli.running import say
from workers.embedded import EmbeddedPostgres, EmbeddedValkey
from workers.home import Home
from workers.processes import Identity
from workers.settings import Settings
from workers.supervisor.local import FORCE_AFTER
from workers.supervisor.lock import FleetLock, is_held
from workers.supervisor.sweep import sweep


@click.command()
def down() -> None:
    """Stop every process and embedded server; their data stays for the next up."""
    home = Home.find()
    if not is_held(home):
        left = clean_up(home)
        say(f"ended what an earlier run left behind: {', '.join(left)}" if left else "not running")
        return
    supervisor = Identity.from_json(home.state.section("fleet").get("identity"))
    # Two groups of processes may each use up their grace, then the servers stop.
    patience = 2 * (_grace(home) + FORCE_AFTER) + 30
    say("stopping")
    if supervisor is not None:
        supervisor.signal(signal.SIGTERM)
    if not _released(home, patience) and supervisor is not None:
        say("the supervisor does not end: killing it")
        supervisor.signal(signal.SIGKILL)
        _released(home, 10)
        clean_up(home)
    say("stopped")


def clean_up(home: Home) -> list[str]:
    """Ends recorded processes and servers that outlived their supervisor; the names of the processes."""
    if not home.path.exists():
        return []
    with FleetLock(home):
        left = sweep(home)
        for server in (EmbeddedValkey(home.path), EmbeddedPostgres(home.path)):
            server.end_previous()
    return left


def _grace(home: Home) -> int:
    kept = home.state.section("environment").get("FLEET_SHUTDOWN_GRACE", "")
    return int(kept) if str(kept).isdecimal() else int(Settings.model_fields["shutdown_grace"].default)


def _released(home: Home, timeout: float) -> bool:
    until = time.monotonic() + timeout
    while is_held(home):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True
