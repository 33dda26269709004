"""Workers killed one after the other under a steady load of plain Celery messages: what is lost, what is doubled.

``python -m tests.chaos.kills [--kills 50] [--rate 200] [--seed 1]`` runs this on the workers of a fleet, then, as
the control that shows what the test can see, on workers of an unmodified Celery under the same load. It prints
one line for each and ends with 1 if the fleet lost or doubled anything or the control lost nothing.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import redis
from celery import Celery
from kombu.exceptions import KombuError
from sqlalchemy import text

from tests.support.brokers import BrokerBench, bench_on
from tests.support.private import private_fleets
from tests.support.running import RunningFleet
from tests.support.servers import private_valkey
from tests.support.waiting import eventually
from workers.processes import ManagedProcess

STOCK = "kombu.transport.redis:Transport"
"""As a process that knows nothing of the fleet has it."""

WORKERS = 3


class Load(threading.Thread):
    """Sends ``rate`` messages a second that nobody waits for, until ``stop()``; ``sent``: mark -> Unix time."""

    def __init__(self, broker_url: str, task: str, queue: str, rate: float, prefix: str = "load") -> None:
        super().__init__(name="load", daemon=True)
        self.sent: dict[str, float] = {}
        self.refused: set[str] = set()
        """Messages whose sending failed: they may have arrived or not."""
        self._task, self._queue, self._pause, self._prefix = task, queue, 1 / rate, prefix
        self._app = Celery("another-service", broker=broker_url, set_as_current=False)
        # One socket timeout and no retries: a message that may have been sent must not be sent again.
        self._app.conf.update(
            broker_transport=STOCK,
            broker_transport_options={"socket_timeout": 10, "socket_connect_timeout": 3},
            task_publish_retry=False,
        )
        self._over = threading.Event()
        self._one_at_a_time = threading.Lock()

    def send(self) -> str:
        """One more message, and its mark; for any thread."""
        with self._one_at_a_time:
            mark = f"{self._prefix}-{len(self.sent) + len(self.refused)}"
            began = time.time()
            try:
                self._app.send_task(self._task, [], self._arguments(mark), queue=self._queue, ignore_result=True)
            except (OSError, redis.RedisError, KombuError):
                self.refused.add(mark)
            else:
                self.sent[mark] = began
            return mark

    def _arguments(self, mark: str) -> dict[str, str]:
        return {"id" if self._task == "note" else "agent_id": mark}

    def run(self) -> None:
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            self.send()
            due = max(due + self._pause, time.monotonic() - 1)

    def stop(self) -> None:
        """Ends it; returns when the last message is sent."""
        self._over.set()
        self.join(20)
        self._app.close()


class Target(Protocol):
    """Workers that can be killed, and what they did."""

    task: str
    queue: str
    url: str
    broker: redis.Redis

    def start(self) -> ManagedProcess: ...

    def ready(self, process: ManagedProcess) -> None: ...

    def effects(self) -> dict[str, tuple[int, float | None]]:
        """By mark: how often it had its effect, and the Unix time of the last, where that is known."""


class OfFleet:
    """The sessions workers of a fleet; the effect is a session."""

    task, queue = "session.create", "sessions"

    def __init__(self, fleet: RunningFleet) -> None:
        self.fleet = fleet
        self.url, self.broker = fleet.settings.broker_url, fleet.broker

    def start(self) -> ManagedProcess:
        return self.fleet.start("sessions", wait=False)

    def ready(self, process: ManagedProcess) -> None:
        self.fleet.ready(process)

    def effects(self) -> dict[str, tuple[int, float | None]]:
        query = "SELECT agent_id, count(*), extract(epoch FROM max(created_at)) FROM sessions GROUP BY agent_id"
        with self.fleet.engine.connect() as db:
            return {row[0]: (row[1], float(row[2])) for row in db.execute(text(query))}


class OfCelery:
    """Workers of an unmodified Celery on a Redis of their own; the effect is a count there."""

    task, queue = "note", "celery"

    def __init__(self, bench: BrokerBench) -> None:
        self._bench = bench
        self.url, self.broker = bench.url, bench.broker

    def start(self) -> ManagedProcess:
        # What a killed worker holds, and only that, comes back soon.
        quick = {"visibility_timeout": 5, "unacked_mutex_expire": 5}
        return self._bench.worker(kind="stock", wait=False, broker_transport_options=quick)

    def ready(self, process: ManagedProcess) -> None:
        self._bench.ready(process)

    def effects(self) -> dict[str, tuple[int, float | None]]:
        return {mark: (count, None) for mark, count in self._bench.done().items()}


@dataclass(frozen=True)
class Outcome:
    """What became of the messages of one run."""

    sent: int
    ends: int
    lost: list[str]
    doubled: list[str]
    slowest: float | None
    """Seconds from sending to the effect of the message that waited longest."""

    def line(self, name: str) -> str:
        slowest = "-" if self.slowest is None else f"{self.slowest:.1f} s"
        counts = f"{self.sent:>8,} {self.ends:>6} {len(self.lost):>6} {len(self.doubled):>8} {slowest:>9}"
        return f"{name:<18} {counts}"


HEAD = f"{'':<18} {'sent':>8} {'kills':>6} {'lost':>6} {'doubled':>8} {'slowest':>9}"

End = Callable[[ManagedProcess], object]


def kill(process: ManagedProcess) -> None:
    """SIGKILL to the worker and its children."""
    process.kill_group(signal.SIGKILL)
    process.wait(10)


def run(target: Target, ends: Sequence[End], rate: float = 200, seed: int = 1) -> Outcome:
    """Ends workers under load, one after the other: every second in the middle of a backlog, the others when
    nothing waits. Returns when all that was sent has been done or is nowhere any more."""
    choice = random.Random(seed)
    workers = [target.start() for _ in range(WORKERS)]
    for worker in workers:
        target.ready(worker)
    load = Load(target.url, target.task, target.queue, rate)
    load.start()
    try:
        for number, end in enumerate(ends):
            victim = number % WORKERS
            target.ready(workers[victim])
            if number % 2:
                for _ in range(100):
                    load.send()
            else:
                wait_until(lambda: target.broker.llen(target.queue) == 0, 5)
            time.sleep(choice.uniform(0, 0.1))
            end(workers[victim])
            if number < len(ends) - WORKERS + 1:  # one is enough for the rest
                workers[victim] = target.start()
    finally:
        load.stop()
    return settle(target, load, len(ends))


def settle(target: Target, load: Load, ends: int, patience: float = 40) -> Outcome:
    """Waits until nothing is queued or held any more, or nothing changes for ``patience`` seconds; then counts."""

    def left() -> tuple[int, int]:
        return target.broker.llen(target.queue), target.broker.hlen("unacked")

    while any(before := left()) and wait_until(lambda before=before: left() != before, patience):
        pass
    assert not any(left()), f"nothing goes on: {left()} queued and held"
    found = target.effects()
    mine = [mark for mark in [*load.sent, *load.refused] if mark in found]
    late = [at - load.sent[mark] for mark in mine if mark in load.sent and (at := found[mark][1]) is not None]
    return Outcome(
        sent=len(load.sent),
        ends=ends,
        lost=[mark for mark in load.sent if mark not in found],
        doubled=[mark for mark in mine if found[mark][0] > 1],
        slowest=max(late, default=None),
    )


def resume(target: Target, load: Load, within: float = 90) -> float:
    """Seconds until a message that is sent now has had its effect, behind what waits already."""
    began = time.monotonic()
    mark = load.send()
    while mark in load.refused:
        assert time.monotonic() < began + within, "nothing can be sent"
        time.sleep(0.1)
        mark = load.send()
    eventually(lambda: mark in target.effects(), within, every=0.1)
    return time.monotonic() - began


def wait_until(true: Callable[[], object], within: float) -> bool:
    """As :func:`eventually`, but in vain it only says so: what is missing is counted later."""
    try:
        eventually(true, within)
    except AssertionError:
        return False
    return True


@contextmanager
def fleet_target() -> Iterator[OfFleet]:
    with private_fleets() as make:
        yield OfFleet(make(sessions=0, relay=1))


@contextmanager
def celery_target() -> Iterator[OfCelery]:
    with private_valkey() as server, bench_on(server) as bench:
        yield OfCelery(bench)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.kills", description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--rate", type=float, default=200, help="messages a second")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    print(HEAD)
    with fleet_target() as fleet:
        ours = run(fleet, [kill] * given.kills, given.rate, given.seed)
    print(ours.line("sessionfleet"), flush=True)
    with celery_target() as plain:
        control = run(plain, [kill] * given.kills, given.rate, given.seed)
    print(control.line("unmodified Celery"))
    return int(bool(ours.lost or ours.doubled) or not control.lost)


if __name__ == "__main__":
    sys.exit(main())
