"""The months of ``session_events`` and ``audit_events`` as the catalogue knows them (rows J-01, J-08).

A month is ``[first instant, first instant of the next month)`` in UTC. Names like
``audit_events_2026_01`` are for people: nothing here decides anything by a name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from sqlalchemy import Connection, Engine, text

from history.ddl import ddl_connection, patiently
from history.month import PARENTS, ensure_month

# Bounds are cast back in the session that printed them: right for every TimeZone and DateStyle.
PARTITIONS = text("""
    SELECT home.nspname AS schema, month.relname AS name, i.inhdetachpending AS detach_pending,
           CASE WHEN ends[1] <> 'MINVALUE' THEN btrim(ends[1], '''')::timestamptz END AS lower,
           CASE WHEN ends[2] <> 'MAXVALUE' THEN btrim(ends[2], '''')::timestamptz END AS upper,
           ends IS NULL AS is_default
    FROM pg_catalog.pg_inherits i
    JOIN pg_catalog.pg_class month ON month.oid = i.inhrelid
    JOIN pg_catalog.pg_namespace home ON home.oid = month.relnamespace
    JOIN pg_catalog.pg_class parent ON parent.oid = i.inhparent AND parent.relkind = 'p'
    JOIN pg_catalog.pg_namespace n ON n.oid = parent.relnamespace
    CROSS JOIN LATERAL (
        SELECT regexp_match(pg_get_expr(month.relpartbound, month.oid), 'FROM [(](.*)[)] TO [(](.*)[)]')
    ) AS bound (ends)
    WHERE n.nspname = :schema AND parent.relname = :parent
    ORDER BY lower NULLS FIRST, month.oid
""")


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition as the catalogue has it; ``lower`` <= key < ``upper``, None where there is no bound."""

    schema: str
    name: str
    lower: datetime | None
    upper: datetime | None
    detach_pending: bool
    is_default: bool = False

    def covers(self, at: datetime) -> bool:
        """Whether a row of the instant ``at`` would be stored here."""
        if self.is_default or self.detach_pending:
            return False
        return (self.lower is None or self.lower <= at) and (self.upper is None or at < self.upper)


def list_partitions(conn: Connection, schema: str, parent: str) -> list[Partition]:
    """The partitions of ``schema.parent``, oldest first, half-detached ones included; [] without a parent."""
    rows = conn.execute(PARTITIONS, {"schema": schema, "parent": parent})
    return [
        Partition(
            schema=row.schema,
            name=row.name,
            lower=row.lower and row.lower.astimezone(UTC),
            upper=row.upper and row.upper.astimezone(UTC),
            detach_pending=row.detach_pending,
            is_default=row.is_default,
        )
        for row in rows
    ]


def months(at: datetime, count: int) -> Iterator[datetime]:
    """The first instants of ``count`` months in UTC, beginning with the month that holds ``at``."""
    first = at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for ahead in range(count):
        years, month = divmod(first.month - 1 + ahead, 12)
        yield first.replace(year=first.year + years, month=month + 1)


def ensure(
    engine: Engine, schema: str, *, ahead: int, now: datetime | None = None, dry_run: bool = False
) -> list[str]:
    """Make the current month and the next ``ahead`` (1..24) of both parents; the names of the new ones.

    ``engine`` logs in as the owner. ``now`` is the database's clock unless given. Each month is a
    transaction of its own under SHARE UPDATE EXCLUSIVE on the parent: writers are never blocked, safe
    beside any number of other callers. ``dry_run`` answers the names that months would get (a taken name
    gets a suffix when it comes to it). Raises OperationalError (55P03) when locks do not come free.
    """
    with ddl_connection(engine) as conn:
        return ensure_on(conn, schema, ahead=ahead, now=now or clock(conn), dry_run=dry_run)


def ensure_on(conn: Connection, schema: str, *, ahead: int, now: datetime, dry_run: bool) -> list[str]:
    """:func:`ensure` on an autocommit connection of the owner."""
    made = []
    for parent in PARENTS:
        present = list_partitions(conn, schema, parent)
        for first in months(now, ahead + 1):
            if any(partition.covers(first) for partition in present):
                continue
            if dry_run:
                made.append(f"{parent}_{first:%Y_%m}")
            elif name := patiently(partial(ensure_month, conn, parent, first, schema=schema)):
                made.append(name)
    return made


def runway_days(partitions: Sequence[Partition], now: datetime) -> float:
    """Days from ``now`` to the end of the unbroken run of months that begins with the current one.

    0.0 when the current month is missing; a month beyond a gap does not count, nor a half-detached one.
    An open end (MAXVALUE) lasts to the year 9999.
    """
    for_ever = datetime.max.replace(tzinfo=UTC)
    end = now
    while end < for_ever and (here := next((p for p in partitions if p.covers(end)), None)) is not None:
        end = here.upper or for_ever
    return round((end - now).total_seconds() / 86400, 3)


def runway(conn: Connection, schema: str, now: datetime | None = None) -> dict[str, float]:
    """:func:`runway_days` by parent, for ``partition_runway_days`` (J-08); ``now``: the database's clock."""
    at = now or clock(conn)
    return {parent: runway_days(list_partitions(conn, schema, parent), at) for parent in PARENTS}


def pending_detaches(conn: Connection, schema: str) -> list[str]:
    """Names of half-detached partitions: inserts into their range fail until they are finalized (J-08)."""
    return [p.name for parent in PARENTS for p in list_partitions(conn, schema, parent) if p.detach_pending]


def clock(conn: Connection) -> datetime:
    """The database's clock, aware UTC."""
    now: datetime = conn.execute(text("SELECT clock_timestamp()")).scalar_one()
    return now.astimezone(UTC)
