"""The sweep behind the relay: publishes what waits while nobody leads (row D-08)."""

from __future__ import annotations

import logging
import uuid

from redis.exceptions import RedisError
from sqlalchemy import Connection, Engine

from fanout.publish import Publisher, PublishOutage
from sessionfleet.messages.maintenance import DrainOutbox
from sessions import leadership, outbox
from sessions.outbox import NAME, Leader
from tasks.base import duty
from tasks.outbox_drain import Drain, NoLongerLeader
from tasks.runtime import Runtime

log = logging.getLogger(__name__)

LIFE = 4.0
"""Seconds of lease, renewed before every batch: a relay that starts meanwhile waits no longer."""

BATCHES = 100
"""Batches of one sweep, at most; the next one goes on."""


@duty(DrainOutbox)
def drain_outbox(runtime: Runtime, _: DrainOutbox) -> dict[str, int]:
    """Publish what no relay publishes."""
    return sweep(runtime.engine, runtime.extras["publisher"])


def sweep(engine: Engine, publisher: Publisher) -> dict[str, int]:
    """Leads for a moment if nobody else does; answers what was published and what is still pending.

    Redis being away ends the sweep, not with an error: the events wait.
    """
    holder = f"sweep:{uuid.uuid4().hex[:8]}"
    published = 0
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        pending = outbox.pending(db, outbox.load_cursor(db))
        epoch = leadership.take(db, NAME, holder, LIFE) if pending else None
        if epoch is not None:
            leader = Leader(holder, epoch)
            try:
                published = _drain(db, publisher, leader)
            finally:
                leadership.release(db, NAME, holder, epoch)
            pending = outbox.pending(db, outbox.load_cursor(db))
    return {"published": published, "pending": pending}


def _drain(db: Connection, publisher: Publisher, leader: Leader) -> int:
    published = 0
    drain = Drain(db, publisher, leader)
    try:
        drain.begin()
        for _ in range(BATCHES):
            step = drain.step()
            published += step.published
            if not step.more or not leadership.renew(db, NAME, leader.holder, leader.epoch, LIFE):
                break
        drain.save()
    except NoLongerLeader:
        pass
    except (PublishOutage, RedisError, OSError) as error:
        log.info("events wait, Redis takes none: %s", error)
    return published
