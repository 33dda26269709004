"""Months past their retention leave ``audit_events`` (rows J-03, J-04).

Only partitions that the catalogue attaches to ``audit_events`` are ever touched, by their upper bound. A
detached month stays as a table of its own, with its rows and still append-only; archiving and dropping it is
J-05. ``session_events`` never gives a month away: a reader may ask for any event of a session that exists, by
a cursor that is never too old (D-13), and one long-lived session keeps its oldest month needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from history.ddl import LOCKED, patiently, quoted, sqlstate
from history.partitions import Partition, list_partitions

AUDIT = "audit_events"


def retention_cutoff(now: datetime, months: int) -> datetime:
    """``now`` minus ``months`` in UTC, on the last day of a shorter month (31 August - 6: 28 February)."""
    at = now.astimezone(UTC)
    years, month = divmod(at.month - 1 - months, 12)
    for day in (at.day, 30, 29, 28):
        try:
            return at.replace(year=at.year + years, month=month + 1, day=day)
        except ValueError:
            continue
    raise AssertionError("every month has 28 days")


def expired(partitions: Iterable[Partition], cutoff: datetime) -> list[Partition]:
    """Those whose every row is older than ``cutoff``; never a default or an open-ended partition."""
    return [p for p in partitions if p.upper is not None and p.upper <= cutoff]


def pending(partitions: Iterable[Partition]) -> list[Partition]:
    """Those a cut DETACH CONCURRENTLY left behind."""
    return [p for p in partitions if p.detach_pending]


def take_off(conn: Connection, schema: str, parent: str, leaving: Iterable[Partition]) -> list[str]:
    """Detach (or finalize) ``leaving`` one after the other; the names that are gone, in order.

    ``conn`` is an autocommit connection of the owner: DETACH CONCURRENTLY refuses to run in a
    transaction. It locks the parent SHARE UPDATE EXCLUSIVE, then waits for transactions that use the
    parent; when one lasts longer than the lock timeout the partition stays half detached and the next
    attempt finalizes it. Stops at the first that stays locked through all attempts: PostgreSQL allows one
    half-detached partition per parent.
    """
    gone = []
    for partition in leaving:
        try:
            patiently(partial(_detach, conn, schema, parent, partition))
        except DBAPIError as error:
            if sqlstate(error) not in LOCKED:
                raise
            break
        gone.append(partition.name)
    return gone


def _detach(conn: Connection, schema: str, parent: str, leaving: Partition) -> None:
    attached = list_partitions(conn, schema, parent)
    here = next((p for p in attached if (p.schema, p.name) == (leaving.schema, leaving.name)), None)
    if here is None:
        return  # an attempt before this one, or an operator, has finished it
    table, month = quoted(conn, schema, parent), quoted(conn, here.schema, here.name)
    if parent == AUDIT:
        _keep_guarded(conn, schema, here)
    how = "FINALIZE" if here.detach_pending else "CONCURRENTLY"
    conn.exec_driver_sql(f"ALTER TABLE {table} DETACH PARTITION {month} {how}")


def _keep_guarded(conn: Connection, schema: str, month: Partition) -> None:
    """A month attached by hand lacks what ours carry once it stands alone: a trigger, and a mark for J-05."""
    table = quoted(conn, month.schema, month.name)
    guard = text(f"SELECT {quoted(conn, schema, 'fleet_guard_month')}(CAST(:month AS regclass))")
    conn.execute(guard, {"month": table})
    known = text("SELECT obj_description(CAST(:month AS regclass), 'pg_class')")
    if not str(conn.scalar(known, {"month": table})).startswith("fleet month of "):
        mark = f"fleet month of {AUDIT}: {month.lower} to {month.upper}"
        conn.exec_driver_sql(f"COMMENT ON TABLE {table} IS '{mark}'")
