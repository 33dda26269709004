"""The relay: leads or stands by, publishes what is committed, outlives every outage (rows D-08, D-09)."""

from __future__ import annotations

import logging
import threading
import time

from redis.exceptions import RedisError
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from fanout.hints import Hints
from fanout.publish import Publisher, PublishOutage
from sessions import leadership
from sessions.outbox import NAME, Leader
from tasks.outbox_drain import SAVE_EVERY, Drain, NoLongerLeader, Step
from workers.relay_lease import LIFE, HeldLease

log = logging.getLogger(__name__)

POLL = 1.0
"""Seconds between two looks without a hint."""

LOOK = 0.5
"""Seconds between two looks of a stand-by at the lease, and of a leader at a database that is away."""

PROBE = 1.0
"""Seconds between two looks whether Redis takes writes again."""

MAX_BACKOFF = 60.0
TRIM_EVERY = 600.0
GROUPS_EVERY = 5.0
"""Seconds between two looks at the consumer groups: so long they are missing after a FLUSHALL, at most."""

WAITING_TOO_LONG = 10.0
"""Seconds that committed events may wait for an older transaction before it is logged: the workers' own
transactions are cut off by then."""

NAP, MAX_NAP = 0.002, 0.05
"""Seconds to the next look while committed events wait for an older transaction, doubling."""


class Relay:
    """One relay process; any number may run, one leads. ``holder``: name of this process run."""

    def __init__(self, engine: Engine, publisher: Publisher, hints: Hints, *, holder: str) -> None:
        self._engine = engine
        self._autocommit = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._publisher = publisher
        self._hints = hints
        self._holder = holder
        self._failures = 0
        self._database_away = False
        self._waiting_since: float | None = None
        self._waiting_told = False

    def run(self, stop: threading.Event) -> None:
        """Works until ``stop``; then finishes the batch, saves the cursor and gives the lease back."""
        while not stop.is_set():
            try:
                asked_at = time.monotonic()
                with self._autocommit.connect() as db:
                    epoch = leadership.take(db, NAME, self._holder, LIFE)
                self._database_answers()
                if epoch is None:
                    stop.wait(LOOK)
                    continue
            except SQLAlchemyError as error:
                self._database_fails(error)
                stop.wait(LOOK)
                continue
            leader = Leader(self._holder, epoch)
            log.info("this relay leads", extra={"epoch": epoch})
            with HeldLease(self._engine, leader, asked_at) as lease:
                self._lead(leader, lease, stop)
            log.info("this relay leads no more", extra={"epoch": epoch})

    def _lead(self, leader: Leader, lease: HeldLease, stop: threading.Event) -> None:
        while not stop.is_set() and lease.is_held():
            try:
                with self._autocommit.connect() as db:
                    drain = Drain(db, self._publisher, leader)
                    try:
                        self._drain(drain, lease, stop)
                    finally:
                        drain.save()
            except NoLongerLeader:
                return
            except (PublishOutage, RedisError, OSError) as error:
                self._wait_out(error, lease, stop)
            except SQLAlchemyError as error:
                self._database_fails(error)
                stop.wait(LOOK)

    def _drain(self, drain: Drain, lease: HeldLease, stop: threading.Event) -> None:
        drain.begin()  # each time: a server that was away may come back as another
        nap, trim_at, groups_at = NAP, time.monotonic(), time.monotonic() + GROUPS_EVERY
        while not stop.is_set() and lease.is_held():
            step = drain.step()
            self._database_answers()
            self._redis_answers(step)
            self._watch_horizon(step)
            if time.monotonic() >= trim_at:
                drain.trim()
                trim_at = time.monotonic() + TRIM_EVERY
            if time.monotonic() >= groups_at:
                drain.keep_groups()
                groups_at = time.monotonic() + GROUPS_EVERY
            nap = min(nap * 2, MAX_NAP) if step.waiting and not step.published else NAP
            if step.pause:
                stop.wait(step.pause)
            elif not step.more:
                poll = POLL if drain.is_saved else SAVE_EVERY
                self._hints.wait(nap if step.waiting else poll, stop)

    def _wait_out(self, error: Exception, lease: HeldLease, stop: threading.Event) -> None:
        """Until the next try: 1, 2, 4 up to 60 seconds, but no longer than Redis is seen to be away."""
        self._failures += 1
        backoff = min(2.0 ** (self._failures - 1), MAX_BACKOFF)
        if self._failures == 1:
            log.warning("Redis takes no events, they wait: %s", error)
        due = time.monotonic() + backoff
        was_away = False
        while lease.is_held():
            left = due - time.monotonic()
            if stop.wait(left if 0 < left < PROBE else PROBE):
                return
            writable = self._publisher.is_writable()
            if writable and (was_away or time.monotonic() >= due):
                return
            was_away = was_away or not writable

    def _watch_horizon(self, step: Step) -> None:
        """Says so when a transaction somewhere in the cluster stays open and stops all fan-out."""
        if step.published or not step.waiting:
            if self._waiting_told:
                log.info("events go on")
            self._waiting_since, self._waiting_told = None, False
        elif self._waiting_since is None:
            self._waiting_since = time.monotonic()
        elif not self._waiting_told and time.monotonic() - self._waiting_since > WAITING_TOO_LONG:
            self._waiting_told = True
            log.warning(
                "committed events wait for an open writing transaction, maybe of another database of the cluster: "
                "see backend_xid in pg_stat_activity"
            )

    def _redis_answers(self, step: Step) -> None:
        if self._failures and step.published + step.repeats:
            log.info("Redis takes events again", extra={"failures": self._failures})
            self._failures = 0

    def _database_fails(self, error: SQLAlchemyError) -> None:
        if not self._database_away:
            reason = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
            log.warning("PostgreSQL does not answer, trying again: %s", reason)
        self._database_away = True

    def _database_answers(self) -> None:
        if self._database_away:
            log.info("PostgreSQL answers again")
        self._database_away = False
