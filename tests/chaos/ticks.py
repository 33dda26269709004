"""Dispatchers killed at every step of a tick while two beats and a worker dispatch too (AT-H3, AT-H4, row H-06).

``python -m tests.chaos.ticks [--kills 100] [--outage 20]`` with the repository root and ``client`` on PYTHONPATH:
starts servers, two beats and a worker of its own. Each dispatcher is a process that kills itself before its n-th
statement, commit or message; n goes on from one to the next. In the middle the leading beat is killed. Then Redis is
stopped for ``--outage`` seconds while dispatchers settle slots whose messages go nowhere, and then it is emptied.

One schedule of five seconds runs each of its slots, also those of the outage; four of one and two seconds leave
out what overlaps, with a row each. Prints what was found; exit code 1 when a slot was lost, doubled, run twice, or
not brought to its end, and then the rows that stand open on stderr.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NoReturn

from sqlalchemy import event, text

from reviews import commands
from sessionfleet.messages import CreateSchedule
from tasks import schedule_dispatch
from tasks.runtime import Outgoing
from tests.support.running import RunningFleet
from tests.support.scheduling import ledger
from tests.support.servers import embedded_servers
from tests.support.waiting import eventually
from workers.app import create_app
from workers.processes import ManagedProcess
from workers.sending import Sender

SCHEDULES = 4
STEPS = 40
"""Of a tick that has something to do, about: few kills are spread over them."""

GRACE = timedelta(seconds=300)
SHORT_LOCK = {"FLEET_REDBEAT_LOCK_TIMEOUT": "4", "FLEET_BEAT_MAX_LOOP_INTERVAL": "1"}
RARE_TICKS = {"FLEET_DISPATCH_DUE_INTERVAL": "2"}
"""Beat's ticks leave something to do for those that are killed."""

DRAIN = 300
"""Seconds for the runs that wait at the end. A run that nobody started is sent again after 10 s, then 20, 40 ..., so
one whose dispatchers were killed or cut off again and again waits for a minute or two."""

FAULTS = ("lost", "doubled", "run_twice", "open", "not_run")
Schedule = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.ticks", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--outage", type=float, default=20, help="seconds for which Redis is stopped, then emptied")
    wanted = parser.parse_args()
    servers = embedded_servers()
    fleet = RunningFleet(servers, **SHORT_LOCK, **RARE_TICKS)
    try:
        found = Torment(fleet).go(wanted.kills, wanted.outage)
    finally:
        fleet.close()
        servers.close()
    print(json.dumps(found))
    sys.exit(any(found[name] for name in FAULTS))


class Torment:
    """A fleet of a worker and two beats that are started again when they end, and its schedules."""

    def __init__(self, fleet: RunningFleet) -> None:
        self.fleet = fleet
        self.beats: list[ManagedProcess] = []
        self.killed_at: Counter[str] = Counter()
        self.restarts = 0

    def go(self, kills: int, outage: float) -> dict[str, Any]:
        """All faults one after the other; what the ledger holds afterwards."""
        self.fleet.start("maintenance")
        self.beats = [self.fleet.start("beat") for _ in range(2)]
        made = [create_here(self.fleet, interval_seconds=1 + n % 2, owner_id=f"owner-{n}") for n in range(SCHEDULES)]
        steady = create_here(
            self.fleet, interval_seconds=5, owner_id="steady", coalesce="all", overlap="buffer_all"
        )  # each of its slots runs, however late
        self.go_on([*made, steady])
        self.kill_dispatchers(kills)
        self.stop_redis(outage)
        self.go_on([*made, steady])
        self.fleet.broker.flushall()
        self.go_on([*made, steady])
        for schedule in (*made, steady):
            no_more(self.fleet, schedule)
        try:
            self.until(lambda: not going(self.fleet), DRAIN)
        except AssertionError:
            for row in going(self.fleet):
                print(f"open: {row}", file=sys.stderr)
        found = verdict(self.fleet, [*made, steady])
        found["not_run"] = sum(row.status != "success" for row in ledger(self.fleet, steady))
        killed = {
            "killed": sum(self.killed_at.values()),
            "killed_at": self.killed_at,
            "beats_restarted": self.restarts,
        }
        return {**killed, **found}

    def until(self, predicate: Callable[[], Any], timeout: float) -> None:
        """Waits, and starts beats that ended, as the supervisor does."""

        def check() -> Any:
            for beat in self.beats:
                if not beat.running:
                    self.restarts += 1
                    beat.restart()
            return predicate()

        eventually(check, timeout, every=0.5)

    def go_on(self, schedules: list[Schedule]) -> None:
        """Waits until every one of them has settled a slot that was not due when this was called."""
        seen = [len(ledger(self.fleet, one)) for one in schedules]
        self.until(
            lambda: all(len(ledger(self.fleet, one)) > n + 1 for one, n in zip(schedules, seen, strict=True)), 120
        )

    def kill_dispatchers(self, kills: int) -> None:
        """Kill that many, and the leading beat once half of them are dead."""
        stride = max(1, STEPS // kills)
        step = begin = laps = 0
        leads = True
        while sum(self.killed_at.values()) < kills:
            step += stride
            where = dispatch_and_die(self.fleet, step)
            if where is None:
                laps += 1
                if step == begin + stride:
                    stride = max(1, stride // 2)  # longer than a whole tick
                step = begin = laps % stride  # the tick was over before: begin again, a little further on
                if laps > kills + 10:
                    raise AssertionError(f"ticks end before they can be killed: {self.killed_at}")
            else:
                self.killed_at[where] += 1
            if leads and sum(self.killed_at.values()) >= kills // 2:
                leads = False
                self.leader().kill()

    def leader(self) -> ManagedProcess:
        """The beat that got the lock first."""
        return next(beat for beat in self.beats if "Acquired lock" in beat.log_text())

    def stop_redis(self, seconds: float) -> None:
        """No broker for so long; dispatchers settle slots all the while, and their messages go nowhere."""
        valkey = self.fleet.servers.valkey
        assert valkey is not None
        valkey.stop()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            dispatch_and_die(self.fleet, 1_000_000)
            time.sleep(min(1.0, max(0.0, until - time.monotonic())))  # a tick each second, as beat has it
        valkey.start()


def create_here(fleet: RunningFleet, **values: Any) -> Schedule:
    """A schedule of seconds; there is no sessions worker, so it is made in this process."""
    message = CreateSchedule(schedule_type="interval", **values)
    with fleet.engine.begin() as db:
        now = db.execute(text("SELECT clock_timestamp()")).scalar_one()
        return commands.create(db, message, now)


def no_more(fleet: RunningFleet, schedule: Schedule) -> None:
    """No further slots, as from now, and none by the scan that sets forgotten schedules going either."""
    with fleet.engine.begin() as db:
        stop = "UPDATE scheduled_reviews SET next_run = NULL, end_at = clock_timestamp() WHERE schedule_id = :id"
        db.execute(text(stop), {"id": schedule["schedule_id"]})


def dispatch_and_die(fleet: RunningFleet, step: int) -> str | None:
    """One tick in a process that is killed before its ``step``-th step: what that would have been, or None when
    the tick was over before."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        _tick(fleet, step, writing)
    os.close(writing)
    with open(reading, encoding="ascii") as said:  # noqa: PTH123
        where = said.read()
    _, status = os.waitpid(pid, 0)
    return where if os.WIFSIGNALED(status) else None


def _tick(fleet: RunningFleet, step: int, tell: int) -> NoReturn:
    left = step

    def count(what: str) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.write(tell, what.encode())
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        app = create_app(fleet.settings)
        runtime = app.runtime
        event.listen(runtime.engine, "before_cursor_execute", lambda *_: count("statement"))
        event.listen(runtime.engine, "commit", lambda *_: count("commit"))

        class Killed(Sender):
            """Sends one by one, so that a part of a batch may be on its way."""

            def many(self, messages: Sequence[Outgoing]) -> None:
                for message in messages:
                    count("message")
                    super().many([message])

        schedule_dispatch.dispatch(dataclasses.replace(runtime, send=Killed(app)), GRACE)
    finally:
        os._exit(0)


def going(fleet: RunningFleet) -> list[str]:
    """The runs that wait or are under way."""
    with fleet.engine.connect() as db:
        rows = db.execute(text("SELECT * FROM schedule_executions WHERE status IN ('queued', 'running')"))
        return [str({name: str(value) for name, value in row._asdict().items()}) for row in rows]


def verdict(fleet: RunningFleet, made: list[Schedule]) -> dict[str, Any]:
    """Slots in all, those missing between the first and the last, those there or run more than once, and runs that
    have not ended."""
    found = {"slots": 0, "lost": 0, "doubled": 0, "run_twice": 0, "open": len(going(fleet)), "ran": 0}
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
