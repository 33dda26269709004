"""The load as a whole: sessions lived by callers, sessions written to by a plain producer."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Sequence

from sqlalchemy import Engine

from sessionfleet import Fleet
from tests.chaos.driver.journal import Journal
from tests.chaos.driver.load import Caller
from tests.chaos.driver.raw import Hands, Producer
from tests.chaos.driver.readers import Reader
from tests.chaos.driver.verdict import Verdict, judge
from tests.support.running import RunningFleet
from tests.support.waiting import eventually

HOMES = 6
LONGEST = 300.0
"""Seconds until every call under way must have been answered: five times the visibility timeout of a run."""


class Work:
    """Callers share ``clients`` in turn; ``homes`` are the sessions written to without waiting for answers."""

    def __init__(
        self,
        fleet: RunningFleet,
        clients: Sequence[Fleet],
        seed: int = 0,
        *,
        callers: int = 8,
        calls_per_second: float = 50.0,
        raw_per_second: float = 15.0,
    ) -> None:
        self.journal = Journal(f"chaos-{seed}-{os.getpid()}-{time.time_ns() % 10**9}")
        self.homes = [self.home(clients[0]) for _ in range(HOMES)]
        self.callers = [
            Caller(number, clients[number % len(clients)], self.journal, seed, calls_per_second / callers)
            for number in range(callers)
        ]
        self.producer = Producer(
            fleet.broker, fleet.settings.broker_url, self.homes, self.journal, seed, raw_per_second
        )
        self.hands = Hands(fleet.broker, self.homes, self.journal, random.Random(f"{seed}/hands"))

    def home(self, client: Fleet) -> str:
        """A new session that lives all along."""
        return str(client.call("session.create", status="active", owner_id=self.journal.run)["id"])

    def start(self) -> None:
        for thread in (*self.callers, self.producer):
            thread.start()

    def goes_on(self, count: int, timeout: float = 180) -> None:
        """Until ``count`` more calls are answered."""
        wanted = self.journal.counted("answered") + count
        eventually(lambda: self.journal.counted("answered") >= wanted, timeout, every=0.05)

    def finish(self, rest: Callable[[float], None] = time.sleep) -> None:
        """No new work; calls under way are repeated until they are answered."""
        threads = (*self.callers, self.producer)
        for thread in threads:
            thread.finish()
        until = time.monotonic() + LONGEST
        while any(thread.is_alive() for thread in threads) and time.monotonic() < until:
            rest(0.1)

    @property
    def failures(self) -> list[str]:
        """What went wrong on this side; a refusal is one, nobody else writes to the callers' sessions."""
        threads = (*self.callers, self.producer)
        found = [f"{thread.name}: {thread.failure!r}" for thread in threads if thread.failure is not None]
        found += [f"{thread.name} did not get its answers" for thread in threads if thread.is_alive()]
        return found + [line for caller in self.callers for line in caller.refusals]

    def judge(self, engine: Engine, readers: Sequence[Reader] = ()) -> Verdict:
        """What became of it all."""
        lives = [life for caller in self.callers for life in caller.lives]
        with engine.connect() as db:
            return judge(db, self.journal, lives, readers)
