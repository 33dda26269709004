"""A write met a month that does not exist yet: make the month, then write again (row J-02).

    try:
        unit()
    except IntegrityError as error:
        if missing_partition(error) is None:
            raise
        create_months(engine, at)  # the unit's own connection is back in the pool by now
        unit()                     # once

Inserts find no partition when maintenance was down longer than the runway, or when an event time lies
beyond it. There is no DEFAULT partition to hide that: it would have to be emptied before its month could
be attached, and it forbids DETACH CONCURRENTLY.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, Engine, func, select, text

from history.ddl import LOCK_TIMEOUT_MS, patiently, sqlstate

PARENTS = ("session_events", "audit_events")
"""The tables that are kept in months."""

CHECK_VIOLATION = "23514"


def missing_partition(error: BaseException) -> str | None:
    """The parent whose month is missing, when that is what ``error`` says; None for any other error.

    Takes SQLAlchemy's IntegrityError or the driver's own error. Reads fields, not the message, so the
    server's language does not matter: PostgreSQL reports a failed routing as a check violation that names
    the parent and no constraint.
    """
    if sqlstate(error) != CHECK_VIOLATION:
        return None
    diagnosis = getattr(getattr(error, "orig", error), "diag", None)
    table = getattr(diagnosis, "table_name", None)
    named = getattr(diagnosis, "constraint_name", None)
    return table if named is None and table in PARENTS else None


def create_month(engine: Engine, parent: str, at: datetime) -> str | None:
    """Make the month of ``parent`` that holds the instant ``at``; its name, or None if it was there.

    A transaction of its own on a connection of its own: do not call it while holding the only one of the
    pool. Any number of callers at once: one creates, the others wait for it and answer None. Writers are
    not blocked (SHARE UPDATE EXCLUSIVE on the parent). The engine may be in the application role.

    Raises what PostgreSQL says: 22023 for another table, 22008 when ``at`` is before 2000 or more than ten
    years ahead, 55006 when the month is half detached, 55P03 after four lock waits of 2 s.
    """

    def create() -> str | None:
        with engine.connect().execution_options(isolation_level="READ COMMITTED") as conn, conn.begin():
            conn.execute(text(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}"))
            return ensure_month(conn, parent, at)

    return patiently(create)


def create_months(engine: Engine, at: datetime) -> list[str]:
    """:func:`create_month` for every parent; what was created. A unit writes to both, so heal both."""
    made = (create_month(engine, parent, at) for parent in PARENTS)
    return [name for name in made if name is not None]


def ensure_month(conn: Connection, parent: str, at: datetime, *, schema: str | None = None) -> str | None:
    """:func:`create_month` inside the caller's transaction, which must be READ COMMITTED and short."""
    functions = func if schema is None else getattr(func, schema)
    name: str | None = conn.scalar(select(functions.fleet_ensure_month(parent, at)))
    return name
