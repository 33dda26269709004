"""``fleet up``: start everything here, wait until it works, say where it is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import click

from workers.cli.running import environment, say
from workers.home import ROOT, Home
from workers.settings import Settings
from workers.settings_urls import mask
from workers.supervisor.local import LocalFleet, StartFailed
from workers.supervisor.lock import AlreadyRunning, is_held

DETACHED_LOG = "fleet.log"


@click.command()
@click.option("--detach", "-d", is_flag=True, help="Return when the fleet works and leave it running.")
def up(detach: bool) -> None:
    """Start the servers (unless FLEET_DATABASE_URL and FLEET_REDIS_URL name some) and every process.

    Without --detach it runs until Ctrl-C. FLEET_SCALE=sessions=4,beat=2 says how many of each.
    """
    home = Home.find()
    if is_held(home) and (not detach or works(home)):
        announce_running(home)
    elif detach:
        up_detached(home)
    else:
        up_here(home)


def up_here(home: Home) -> None:
    """Runs the fleet in this process until it is told to stop."""
    try:
        LocalFleet(home, os.environ, say).run(lambda: click.echo(summary(home), err=True))
    except AlreadyRunning:
        announce_running(home)
    except StartFailed as error:
        say(str(error))
        sys.exit(error.exit_code)


def up_detached(home: Home) -> None:
    """Runs ``fleet up`` in a session of its own, passes its lines on until it works or has ended; Ctrl-C ends it."""
    home.logs.mkdir(parents=True, exist_ok=True)
    log = home.logs / DETACHED_LOG
    with log.open("ab") as output:
        start = output.tell()
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "workers.cli", "up"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=ROOT,
            start_new_session=True,
        )
    try:
        pass_on(home, child, log, start)
    except KeyboardInterrupt:
        child.terminate()
        child.wait()
        raise


def pass_on(home: Home, child: subprocess.Popen[bytes], log: Path, start: int) -> None:
    """Prints what is in ``log`` behind ``start`` until the fleet works; exits when it has ended instead."""
    with log.open(errors="replace") as lines:
        lines.seek(start)
        while True:
            ended = child.poll() is not None
            ready = home.state.section("fleet")
            for line in lines:
                click.echo(line, nl=False, err=True)
            if ended:
                if child.returncode and lines.tell() == start:
                    say(f"it ended with exit code {child.returncode} and could not say why: is there room in {log}?")
                    sys.exit(2)
                sys.exit(child.returncode)
            if ready.get("phase") == "ready" and (ready.get("identity") or {}).get("pid") == child.pid:
                for line in lines:
                    click.echo(line, nl=False, err=True)
                child.returncode = 0  # it is not ours any more: no warning that it still runs
                return
            time.sleep(0.05)


def works(home: Home) -> bool:
    """Waits while the supervisor that holds the home starts or stops; whether its fleet works then."""
    while is_held(home):
        if home.state.section("fleet").get("phase") == "ready":
            return True
        time.sleep(0.05)
    return False


def announce_running(home: Home) -> None:
    """Says that there is nothing to start."""
    section = home.state.section("fleet")
    pid = (section.get("identity") or {}).get("pid")
    say(f"already running in {home.path} (supervisor {pid}, {section.get('phase')}): see ./fleet status")


def summary(home: Home) -> str:
    """Where everything is and three things to try."""
    settings = Settings.load(environment(home))
    flower = f"http://{settings.flower_host}:{settings.flower_port}"
    login = f"user {settings.flower_user}, password {settings.flower_password}"
    lines = [
        "",
        f"  database  {mask(settings.database_url)}",
        f"  redis     {mask(settings.broker_url)} (queues), next numbers: cache, beat, results",
        f"  flower    {flower}  {login}",
        *[f"  data      {place}" for place in data_folders(home)],
        f"  logs      {home.logs}",
        "            ./fleet env prints the URLs with their passwords",
        "",
        "Try:",
        "  ./fleet demo",
        "  ./fleet call session.create agent_id=a1 session_type=development",
        "  ./fleet tail",
        "",
        "Stop it with ./fleet down" + (" or Ctrl-C." if sys.stderr.isatty() else "."),
    ]
    return "\n".join(lines)


def data_folders(home: Home) -> list[str]:
    """Where the embedded servers keep their data; as root PostgreSQL's may have to lie elsewhere."""
    kept = [home.state.section(name).get("data") for name in home.state.section("servers")]
    return sorted({str(Path(data).parent) for data in kept if data})
