"""The end of a run: everything heals, what waits is done, and nothing may be left over."""

from __future__ import annotations

import time
from collections.abc import Callable

import redis
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from sessionfleet.errors import FleetError
from sessions import outbox
from tests.chaos.driver.ground import Ground
from tests.chaos.driver.journal import Journal
from tests.support.running import RunningFleet
from workers.celery_config import PRIORITY_STEPS, QUEUES

LONGEST = 300.0
"""Seconds until everything must be quiet: five times the visibility timeout."""

_LETTERS = text(
    "SELECT id, task_id FROM message_dead_letters WHERE requeued_at IS NULL OR requeued_at < last_seen_at"
)
_BLOCKED = text("""
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND (state LIKE 'idle in transaction%' AND xact_start < now() - interval '5 seconds' OR wait_event_type = 'Lock')
""")


def left_over(fleet: RunningFleet) -> dict[str, int]:
    """What waits anywhere, by place; empty when all is quiet."""
    lists = [q if not step else f"{q}\x06\x16{step}" for q in QUEUES for step in PRIORITY_STEPS]
    with fleet.broker.pipeline(transaction=False) as pipe:
        for name in (*lists, "_fleet.quarantine"):
            pipe.llen(name)
        pipe.hlen("unacked").zcard("unacked_index")
        *queued, quarantined, unacked, index = pipe.execute()
    with fleet.engine.connect() as db:
        pending = outbox.pending(db, outbox.load_cursor(db))
        blocked = db.execute(_BLOCKED).scalar_one()
    found = {
        "queued": sum(queued),
        "quarantine not drained": quarantined,
        "unacked": unacked,
        "unacked_index": index,
        "events not published": pending,
        "transactions stuck": blocked,
    }
    return {name: count for name, count in found.items() if count}


def becomes_quiet(ground: Ground, say: Callable[[str], None]) -> dict[str, int]:
    """Waits for it; what is left when it never comes."""
    until, told, found = time.monotonic() + LONGEST, time.monotonic(), {"nothing was seen": 1}
    while time.monotonic() < until:
        ground.look()
        try:
            found = left_over(ground.fleet)
        except (redis.RedisError, SQLAlchemyError) as error:
            found = {str(error): 1}
        if not found and ground.all_ready():
            return {}
        if time.monotonic() - told > 10:
            told = time.monotonic()
            say(f"waiting for quiet: {found}")
        ground.rest(0.05)
    return found or {"processes that are not ready": 1}


def send_again(ground: Ground, journal: Journal) -> int:
    """Good messages whose processes died too often were put away: an operator sends them again; how many."""
    ours = {entry.task_id for entry in journal.everything() if entry.task_id}
    with ground.fleet.engine.connect() as db:
        ids = [row.id for row in db.execute(_LETTERS) if row.task_id in ours]
    for start in range(0, len(ids), 100):
        try:
            ground.fleet.call("deadletter.requeue", ids=ids[start : start + 100])
        except FleetError as error:
            raise AssertionError(f"letters cannot be sent again: {error}") from error
    return len(ids)
