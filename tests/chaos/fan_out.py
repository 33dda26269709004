"""Events under faults: a relay killed over and over, Redis killed and emptied, subscribers that come and go.

``python -m tests.chaos.fan_out [--kills 50 --restarts 20 --flushes 5 --seconds 120] [--seed 1] [--json]`` with the
repository root and ``client`` on PYTHONPATH. A private fleet on embedded servers: two relays, two workers, one Valkey
for everything. The leading relay is killed (SIGKILL), Valkey is killed and started again, all it
holds is removed (FLUSHALL), at moments drawn from the seed. Meanwhile events are committed at a steady rate, and
subscribers follow them with the client, the first of each session all along, some with absences. At the end the
sessions complete, and every subscriber must have had every event once, in ``seq`` order, and an end. Exit code 0
when that is so.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from sessionfleet import Fleet
from sessionfleet.errors import FleetError
from sessionfleet.messages import Complete, EmitEvent
from sessions import emission, lifecycle
from sessions.change import Batch, Operation
from tasks.unit_of_work import run_batch
from tests.support.outbox import LocalWorker
from tests.support.private import private_fleets
from tests.support.running import RunningFleet
from tests.support.waiting import eventually
from workers.processes import ManagedProcess

SESSIONS = 4
TICK = 0.05
"""Seconds between two transactions of events."""

MOST = 100
"""Events of one transaction at most, when the writer was held up."""

TRIES = 5

SETTLE = 120.0
"""Seconds after the last event in which every subscriber has to be at its end."""


@dataclass(frozen=True)
class Plan:
    """What is done to whom."""

    seconds: float = 120
    rate: int = 300
    subscribers: int = 20
    absent: int = 5
    kills: int = 50
    restarts: int = 20
    flushes: int = 5
    seed: int = 1


@dataclass
class Found:
    """What came of it. ``lost``, ``repeated``, ``disordered``: events over all subscribers; ``unended``:
    subscribers without an end; ``latest``: the longest time from an event's commit to a subscriber that listened;
    ``settled``: from the last event to the last subscriber's end; both in seconds."""

    events: int = 0
    rate: float = 0.0
    subscribers: int = 0
    deliveries: int = 0
    visits: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    repeated: int = 0
    disordered: int = 0
    unended: int = 0
    latest: float = 0.0
    settled: float = 0.0
    errors: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not (self.lost or self.repeated or self.disordered or self.unended or self.errors)


class Subscriber(threading.Thread):
    """Follows one session in a thread; ``leaves``: draws how long it stays and how long it is away."""

    def __init__(self, client: Fleet, session_id: str, over: threading.Event, leaves: random.Random | None) -> None:
        super().__init__(name=f"subscriber-{session_id[:8]}", daemon=True)
        self.session_id = session_id
        self.seen: list[int] = []
        self.visits = 0
        self.late = 0.0
        self.reason: str | None = None
        self.failure = ""
        self._client = client
        self._over = over
        self._leaves = leaves

    def run(self) -> None:
        try:
            while self.reason in (None, "closed"):
                self._visit()
                if self._leaves is not None:
                    self._over.wait(self._leaves.uniform(1, 4))
        except Exception as error:  # noqa: BLE001 - shown in the report
            self.failure = f"{type(error).__name__}: {error}"

    def _visit(self) -> None:
        try:
            events = self._client.subscribe(self.session_id, after_seq=self.seen[-1] if self.seen else 0, ping=1)
        except FleetError as error:
            if not error.retryable:
                raise
            time.sleep(0.1)  # a server is away; come again
            return
        self.visits += 1
        leave_at = time.monotonic() + self._leaves.uniform(2, 5) if self._leaves is not None else None
        began = time.time()
        with events:
            for event in events:
                if event.is_end:
                    self.reason = event.reason
                elif not event.is_mark:
                    self.seen.append(event.seq)
                    if event.timestamp is not None and event.timestamp.timestamp() > began:
                        self.late = max(self.late, time.time() - event.timestamp.timestamp())
                if leave_at is not None and not self._over.is_set() and time.monotonic() > leave_at:
                    return


class Writer(threading.Thread):
    """Commits events at a rate, through the same transaction as a worker."""

    def __init__(self, fleet: RunningFleet, session_ids: list[str], rate: int) -> None:
        super().__init__(name="writer", daemon=True)
        self.over = threading.Event()
        self.written = 0
        self.seconds = 0.0
        self.failure = ""
        self._worker = LocalWorker(fleet)
        self._session_ids = session_ids
        self._rate = rate

    def run(self) -> None:
        began = time.monotonic()
        try:
            while not self.over.wait(TICK):
                due = min(int((time.monotonic() - began) * self._rate) - self.written, MOST)
                self._write([self._note(n) for n in range(due)])
                self.written += due
                self.seconds = time.monotonic() - began
            self._write([self._operation(Complete(session_id=one), lifecycle.complete) for one in self._session_ids])
        except Exception as error:  # noqa: BLE001 - shown in the report
            self.failure = f"{type(error).__name__}: {error}"
        finally:
            self._worker.close()

    def _note(self, n: int) -> Operation:
        session_id = self._session_ids[(self.written + n) % len(self._session_ids)]
        return self._operation(EmitEvent(session_id=session_id, type="note"), emission.emit_event)

    def _operation(self, message: Any, verb: Callable[..., Any]) -> Operation:
        key = f"{message.session_id}-{random.getrandbits(64)}"
        name = message.wire_name
        return Operation(name=name, message=message, verb=verb, task_id=key, session_key=message.session_id, key=key)

    def _write(self, operations: list[Operation]) -> None:
        """A repeat has the same keys, so it has no second effect."""
        for left in reversed(range(TRIES)):
            try:
                outcomes = run_batch(self._worker.runtime, Batch(operations))
            except DBAPIError:
                if not left:
                    raise
                time.sleep(1)
            else:
                for outcome in outcomes:
                    if outcome.error is not None:
                        raise outcome.error
                return


class Faults:
    """Does the faults of a plan, at moments drawn from its seed. From the main thread: it starts processes."""

    def __init__(self, fleet: RunningFleet, plan: Plan) -> None:
        self._fleet = fleet
        self.done = {"relay killed": 0, "Redis killed": 0, "Redis emptied": 0}
        kinds = [self.kill_relay] * plan.kills + [self.restart] * plan.restarts + [self.flush] * plan.flushes
        drawn = random.Random(plan.seed)
        drawn.shuffle(kinds)
        slot = plan.seconds / (len(kinds) + 1)
        self._plan = [(slot * (n + drawn.uniform(0.5, 1.5)), kind) for n, kind in enumerate(kinds)]

    def play(self) -> None:
        began = time.monotonic()
        for moment, fault in self._plan:
            time.sleep(max(0.0, began + moment - time.monotonic()))
            fault()

    def kill_relay(self) -> None:
        """The one that leads, wherever it is between reading and saving. Its lease is made to run out at once: that a
        stand-by waits for it is tested elsewhere, here every kill shall meet a leader at work."""
        leader = eventually(self._leader)
        leader.kill()
        leader.wait(10)
        with self._fleet.engine.begin() as db:
            db.execute(text("UPDATE leader_leases SET expires_at = '-infinity' WHERE name = 'relay'"))
        leader.restart()
        self.done["relay killed"] += 1

    def _leader(self) -> ManagedProcess | None:
        held = "SELECT holder FROM leader_leases WHERE name = 'relay' AND expires_at > clock_timestamp()"
        with self._fleet.engine.connect() as db:
            holder = db.execute(text(held)).scalar() or ""
        return next((one for one in self._fleet.of("relay") if f":{one.pid}:" in holder), None)

    def restart(self) -> None:
        """As after a power cut: clients lose their connections, what is on disk comes back."""
        valkey = self._fleet.servers.valkey
        assert valkey is not None
        valkey.kill()
        valkey.start()
        self.done["Redis killed"] += 1

    def flush(self) -> None:
        """Everything: Streams, documents, queues, answers."""
        self._fleet.cache.flushall()
        self.done["Redis emptied"] += 1


def play(plan: Plan, say: Callable[[str], None] = lambda _: None) -> Found:
    """Runs a plan on a fleet of its own; call it from the main thread."""
    with private_fleets() as make:
        fleet = make(sessions=2, relay=2)
        session_ids = [str(fleet.call("session.create", status="active")["id"]) for _ in range(SESSIONS)]
        writer = Writer(fleet, session_ids, plan.rate)
        subscribers = []
        for n in range(plan.subscribers):
            leaves = random.Random(plan.seed + n) if n < plan.absent else None
            subscribers.append(Subscriber(fleet.client, session_ids[n % SESSIONS], writer.over, leaves))
        for thread in (*subscribers, writer):
            thread.start()
        faults = Faults(fleet, plan)
        say(f"{plan.seconds:g} s of faults")
        began = time.monotonic()
        faults.play()
        time.sleep(max(0.0, began + plan.seconds - time.monotonic()))
        writer.over.set()
        writer.join(60)
        ended_at = time.monotonic()
        say("load is over; subscribers come to their ends")
        for one in subscribers:
            one.join(max(0.0, ended_at + SETTLE - time.monotonic()))
        found = _judge(fleet, writer, subscribers)
        found.faults = faults.done
        found.settled = time.monotonic() - ended_at
        return found


def _judge(fleet: RunningFleet, writer: Writer, subscribers: list[Subscriber]) -> Found:
    found = Found(
        events=writer.written, rate=writer.written / max(writer.seconds, 0.001), subscribers=len(subscribers)
    )
    found.errors = [one.failure for one in (writer, *subscribers) if one.failure]
    with fleet.engine.connect() as db:
        rows = db.execute(text("SELECT session_id::text, count(*) FROM session_events GROUP BY session_id"))
        counts: dict[str, int] = {row[0]: row[1] for row in rows}
    for one in subscribers:
        distinct = set(one.seen)
        found.deliveries += len(one.seen)
        found.visits += one.visits
        found.lost += len(set(range(1, counts[one.session_id] + 1)) - distinct)
        found.repeated += len(one.seen) - len(distinct)
        found.disordered += sum(later <= earlier for earlier, later in zip(one.seen, one.seen[1:], strict=False))
        found.unended += one.reason != "completed"
        found.latest = max(found.latest, one.late)
    return found


def lines(found: Found) -> list[str]:
    """The table."""
    rows: list[tuple[str, Any]] = [
        *found.faults.items(),
        ("events committed", f"{found.events} ({found.rate:.0f}/s)"),
        ("subscribers", f"{found.subscribers}, {found.visits} visits"),
        ("deliveries", found.deliveries),
        ("lost", found.lost),
        ("repeated", found.repeated),
        ("out of order", found.disordered),
        ("without an end", found.unended),
        ("latest delivery after", f"{found.latest:.1f} s"),
        ("all at their end after", f"{found.settled:.1f} s"),
    ]
    return [*(f"{name:24}{value!s:>24}" for name, value in rows), *found.errors]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.fan_out", description=__doc__.splitlines()[0])
    for name, default in asdict(Plan()).items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    parser.add_argument("--json", action="store_true")
    given = vars(parser.parse_args())
    as_json = given.pop("json")
    found = play(Plan(**given), lambda line: print(f"fan-out: {line}", file=sys.stderr, flush=True))
    print(json.dumps({**asdict(found), "passed": found.passed}) if as_json else "\n".join(lines(found)))
    return 0 if found.passed else 1


if __name__ == "__main__":
    sys.exit(main())
