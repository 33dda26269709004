"""Dispatchers killed at every step of a tick while two beats and a worker dispatch too (AT-H4, row H-06).

``python -m tests.chaos.ticks [--kills 100]`` with the repository root and ``client`` on PYTHONPATH: starts servers,
two beats and a worker of its own. Each dispatcher is a process that kills itself before its n-th statement, commit
or message; n goes on from one to the next. In the middle the leading beat is killed, too. Prints what was found;
exit code 1 when a slot of a schedule was lost, doubled, or run twice.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
from datetime import timedelta
from typing import Any, NoReturn

from sqlalchemy import event, text

from reviews import commands
from sessionfleet.messages import CreateSchedule
from tasks import schedule_dispatch
from tests.support.running import RunningFleet
from tests.support.scheduling import ledger
from tests.support.servers import embedded_servers
from tests.support.waiting import eventually
from workers.app import create_app

SCHEDULES = 4
STEPS = 40
"""Of a tick, about: few kills are spread over them."""

GRACE = timedelta(seconds=300)
SHORT_LOCK = {"FLEET_REDBEAT_LOCK_TIMEOUT": "4", "FLEET_BEAT_MAX_LOOP_INTERVAL": "1"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    wanted = parser.parse_args()
    servers = embedded_servers()
    fleet = RunningFleet(servers, **SHORT_LOCK)
    try:
        found = torment(fleet, wanted.kills)
    finally:
        fleet.close()
        servers.close()
    print(json.dumps(found))
    sys.exit(1 if found["lost"] or found["doubled"] or found["run_twice"] else 0)


def torment(fleet: RunningFleet, kills: int) -> dict[str, int]:
    """Kill that many dispatchers; what the ledger holds afterwards."""
    fleet.start("maintenance")
    beats = [fleet.start("beat") for _ in range(2)]
    made = [create_here(fleet, number) for number in range(SCHEDULES)]
    killed = tried = step = 0
    while killed < kills and tried < 3 * kills:
        step, tried = step + max(1, STEPS // kills), tried + 1
        died = dispatch_and_die(fleet, step)
        killed += died
        if not died:
            step = 0  # the tick was over before: begin again with the first step
        if killed == kills // 2 and beats:
            beats.pop(0).kill()
    for schedule in made:
        pause(fleet, schedule)
    eventually(lambda: over(fleet), 120, every=0.5)
    return {"kills": killed, **verdict(fleet, made)}


def create_here(fleet: RunningFleet, number: int) -> dict[str, Any]:
    """A schedule of a second or two; there is no sessions worker, so it is made in this process."""
    message = CreateSchedule(schedule_type="interval", interval_seconds=1 + number % 2, owner_id=f"owner-{number}")
    with fleet.engine.begin() as db:
        now = db.execute(text("SELECT clock_timestamp()")).scalar_one()
        return commands.create(db, message, now)


def pause(fleet: RunningFleet, schedule: dict[str, Any]) -> None:
    """No further slots, as from now."""
    with fleet.engine.begin() as db:
        db.execute(
            text("UPDATE scheduled_reviews SET next_run = NULL WHERE schedule_id = :id"),
            {"id": schedule["schedule_id"]},
        )


def dispatch_and_die(fleet: RunningFleet, step: int) -> bool:
    """One tick in a process that is killed before its ``step``-th step; whether the tick had so many."""
    pid = os.fork()
    if pid == 0:
        _tick(fleet, step)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def _tick(fleet: RunningFleet, step: int) -> NoReturn:
    left = step

    def count(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        runtime = create_app(fleet.settings).runtime
        event.listen(runtime.engine, "before_cursor_execute", count)
        event.listen(runtime.engine, "commit", count)

        def send(*arguments: Any, **options: Any) -> None:
            count()
            runtime.send(*arguments, **options)

        schedule_dispatch.dispatch(dataclasses.replace(runtime, send=send), GRACE)
    finally:
        os._exit(0)


def over(fleet: RunningFleet) -> bool:
    """Whether no run waits or is under way."""
    with fleet.engine.connect() as db:
        going = "SELECT count(*) FROM schedule_executions WHERE status IN ('queued', 'running')"
        return bool(db.execute(text(going)).scalar_one() == 0)


def verdict(fleet: RunningFleet, made: list[dict[str, Any]]) -> dict[str, int]:
    """Slots in all, those missing between the first and the last, and those there or run more than once."""
    found = {"slots": 0, "lost": 0, "doubled": 0, "run_twice": 0, "ran": 0}
    for schedule in made:
        rows = ledger(fleet, schedule)
        times = [row.nominal_utc for row in rows]
        period = timedelta(seconds=schedule["interval_seconds"])
        expected = (times[-1] - times[0]) // period + 1
        found["slots"] += len(rows)
        found["doubled"] += len(times) - len(set(times))
        found["lost"] += expected - len(set(times)) + (times[0].isoformat() != schedule["next_run"])
        found["ran"] += sum(row.status == "success" for row in rows)
    with fleet.engine.connect() as db:
        twice = """SELECT count(*) FROM (SELECT execution_id FROM schedule_attempts WHERE status = 'success'
                   GROUP BY execution_id HAVING count(*) > 1) AS twice"""
        found["run_twice"] = db.execute(text(twice)).scalar_one()
    return found


if __name__ == "__main__":
    main()
