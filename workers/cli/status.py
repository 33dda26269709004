"""``fleet status``: what runs in this home and how it is doing."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from workers.cli.running import environment
from workers.home import Home
from workers.processes import Identity
from workers.settings import Settings
from workers.settings_urls import mask
from workers.supervisor.lock import is_held


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object on stdout.")
def status(as_json: bool) -> None:
    """Show servers, processes and the worker nodes that answer; exit code 1 when nothing runs."""
    found = read_status(Home.find())
    click.echo(json.dumps(found, indent=2) if as_json else as_text(found))
    sys.exit(0 if found["running"] else 1)


def read_status(home: Home) -> dict[str, Any]:
    """``{running, phase, home, supervisor, servers[], processes[], workers[]}``; asks the workers for 1 s.

    A process has name, line, pid, state (running, waiting, stopped), restarts, uptime_seconds, last_exit, log.
    """
    running = is_held(home)
    fleet = home.state.section("fleet")
    found: dict[str, Any] = {
        "running": running,
        "phase": fleet.get("phase", "stopped") if running else "stopped",
        "home": str(home.path),
        "supervisor": (fleet.get("identity") or {}).get("pid") if running else None,
        "servers": [],
        "processes": [],
        "workers": [],
    }
    if running:
        found["processes"] = [_process(name, entry) for name, entry in home.state.section("processes").items()]
        settings = Settings.load(environment(home))
        found["servers"] = _servers(home, settings)
        found["workers"] = _nodes(settings) if found["phase"] == "ready" else []
    return found


def _process(name: str, entry: dict[str, Any]) -> dict[str, Any]:
    identity = Identity.from_json(entry.get("identity"))
    alive = identity is not None and identity.alive()
    return {
        "name": name,
        "line": entry["line"],
        "pid": identity.pid if identity is not None and alive else None,
        "state": "running" if alive else ("waiting" if entry["state"] == "running" else entry["state"]),
        "restarts": entry["restarts"],
        "uptime_seconds": round(time.time() - entry["started_at"], 1) if alive else 0.0,
        "last_exit": entry["last_exit"],
        "log": entry["log"],
    }


def _servers(home: Home, settings: Settings) -> list[dict[str, Any]]:
    own = home.state.section("servers")
    found = []
    for name, kept_as, url in (
        ("postgresql", "postgres", settings.database_url),
        ("redis", "valkey", settings.broker_url),
    ):
        identity = Identity.from_json(home.state.section(kept_as).get("process")) if kept_as in own else None
        alive = identity is not None and identity.alive()
        found.append(
            {
                "name": name,
                "embedded": kept_as in own,
                "url": mask(url),
                "pid": identity.pid if identity is not None and alive else None,
                "state": ("running" if alive else "down") if kept_as in own else "external",
                "restarts": own.get(kept_as, {}).get("restarts", 0),
            }
        )
    return found


def _nodes(settings: Settings) -> list[str]:
    from workers.app import create_app

    try:
        replies = create_app(settings).control.ping(timeout=1.0)
    except Exception:  # noqa: BLE001 - whatever the broker's client raises, the rest of the status stands
        return []
    return sorted(node for reply in replies for node in reply)


def as_text(found: dict[str, Any]) -> str:
    """For people."""
    if not found["running"]:
        return f"not running (in {found['home']}): start it with ./fleet up"
    lines = [f"{found['phase']}, supervisor {found['supervisor']}, in {found['home']}", ""]
    lines += [f"{_row(one)} {one['url']}{_restarts(one)}" for one in found["servers"]]
    lines.append("")
    lines += [f"{_row(one)} up {_age(one)}{_restarts(one)}" for one in found["processes"]]
    if found["phase"] == "ready":
        lines += ["", f"  {len(found['workers'])} worker nodes answer: {', '.join(found['workers']) or 'none'}"]
    return "\n".join(lines)


def _row(one: dict[str, Any]) -> str:
    pid = f"pid {one['pid']}" if one["pid"] else ""
    return f"  {one['name']:<16} {one['state']:<9} {pid:<11}"


def _age(one: dict[str, Any]) -> str:
    seconds = int(one["uptime_seconds"])
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _restarts(one: dict[str, Any]) -> str:
    return f", {one['restarts']} restart{'s' * (one['restarts'] > 1)}" if one["restarts"] else ""
