"""One run of partition upkeep: months ahead exist, cut detaches are finished, old audit months leave."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import TypedDict

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from history import maintenance_log
from history.ddl import ddl_connection
from history.detach import AUDIT, expired, pending, retention_cutoff, take_off
from history.month import PARENTS
from history.partitions import clock, ensure_on, list_partitions, runway

DUTY = "maintenance.partition_maintain"


class Upkeep(TypedDict):
    """What a run did, or with ``dry_run`` would do. Lists hold partition names."""

    created: list[str]
    finalized: list[str]
    detached: list[str]
    postponed: list[str]
    """Should have left, but stayed locked: the next run goes on with them."""
    runway_days: dict[str, float]
    dry_run: bool
    skipped: bool
    """Another run holds the lock; nothing was done."""


def maintain(
    engine: Engine,
    schema: str,
    *,
    ahead: int,
    retention_months: int,
    dry_run: bool = False,
    now: datetime | None = None,
) -> Upkeep:
    """Bring the partitions of ``schema`` in order; safe at any time, beside writers and other runs.

    ``engine`` logs in as the owner of the tables. ``ahead`` (1..24) months beyond the current one will
    exist for both parents; audit months whose every row is older than ``retention_months`` (1..120) are
    detached. ``now`` is the database's clock unless given. One run at a time per schema, by an advisory
    lock that a killed run gives back with its connection. Leaves a row in ``maintenance_log`` unless it
    was a dry run or skipped; a run that fails leaves one with ``error`` and raises.
    """
    with ddl_connection(engine) as conn:
        started_at = clock(conn)
        at = now or started_at
        if not _alone(conn, schema):
            return _answer(conn, schema, at, dry_run=dry_run, skipped=True)
        cutoff = retention_cutoff(at, retention_months)
        answer = _answer(conn, schema, at, dry_run=dry_run)
        try:
            _finish_detaches(conn, schema, answer)
            answer["created"] = ensure_on(conn, schema, ahead=ahead, now=at, dry_run=dry_run)
            _detach_expired(conn, schema, cutoff, answer)
        except Exception as error:
            if not dry_run:
                reason = f"{type(error).__name__}: {getattr(error, 'orig', error)}"
                with suppress(SQLAlchemyError), engine.begin() as log:  # our connection may be what failed
                    maintenance_log.record(log, DUTY, started_at, {**answer, "error": reason})
            raise
        answer["runway_days"] = runway(conn, schema, at)
        if not dry_run:
            maintenance_log.record(conn, DUTY, started_at, answer)
        return answer


def _alone(conn: Connection, schema: str) -> bool:
    key = text("SELECT pg_try_advisory_lock(hashtextextended(:key, 0))")
    return bool(conn.scalar(key, {"key": f"{DUTY}:{schema}"}))


def _finish_detaches(conn: Connection, schema: str, answer: Upkeep) -> None:
    """Before anything else: inserts into a half-detached range fail, and no second detach may start."""
    for parent in PARENTS:
        waiting = pending(list_partitions(conn, schema, parent))
        names = [p.name for p in waiting]
        done = names if answer["dry_run"] else take_off(conn, schema, parent, waiting)
        answer["finalized"] += done
        answer["postponed"] += [name for name in names if name not in done]


def _detach_expired(conn: Connection, schema: str, cutoff: datetime, answer: Upkeep) -> None:
    leaving = [p for p in expired(list_partitions(conn, schema, AUDIT), cutoff) if not p.detach_pending]
    names = [p.name for p in leaving]
    if answer["dry_run"]:
        answer["detached"] = names
        return
    blocked = any(p.detach_pending for p in list_partitions(conn, schema, AUDIT))
    answer["detached"] = [] if blocked else take_off(conn, schema, AUDIT, leaving)
    answer["postponed"] += [name for name in names if name not in answer["detached"]]


def _answer(conn: Connection, schema: str, now: datetime, *, dry_run: bool, skipped: bool = False) -> Upkeep:
    return {
        "created": [],
        "finalized": [],
        "detached": [],
        "postponed": [],
        "runway_days": runway(conn, schema, now),
        "dry_run": dry_run,
        "skipped": skipped,
    }
