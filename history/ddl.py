"""How schema changes are made beside running writers: own connection, short lock waits, patience."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

T = TypeVar("T")

LOCK_TIMEOUT_MS = 2000
"""Longest wait for one lock (J-03)."""

PAUSES = (0.2, 0.6, 1.8)
"""Seconds between the attempts of a step that met a lock: four attempts, about 11 seconds at most."""

LOCKED = frozenset({"55P03", "40P01"})
"""SQLSTATE of lock_not_available and deadlock_detected."""


def sqlstate(error: BaseException | None) -> str | None:
    """The SQLSTATE of a driver error or of SQLAlchemy's wrapper around it; None when there is none."""
    state = getattr(getattr(error, "orig", error), "pgcode", None)
    return state if isinstance(state, str) else None


def quoted(conn: Connection, *names: str) -> str:
    """A qualified name for SQL text: ``"fleet"."audit_events"`` of fleet, audit_events."""
    return ".".join(conn.dialect.identifier_preparer.quote_identifier(name) for name in names)


@contextmanager
def ddl_connection(engine: Engine) -> Iterator[Connection]:
    """A connection for schema changes: every statement its own transaction, lock waits of 2 s at most.

    ``engine`` must log in as the owner of the tables (``runtime.owner_engine``). The connection never goes
    back to the pool, so neither these settings nor a session lock outlive the block. There is no
    statement_timeout: DETACH CONCURRENTLY waits for one locker after the other, each wait is bounded.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.detach()
        conn.exec_driver_sql(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
        conn.exec_driver_sql("SET statement_timeout = 0")
        try:
            yield conn
        finally:  # of a closed connection they go only when the server has noticed: the next run would be skipped
            with suppress(SQLAlchemyError):
                conn.exec_driver_sql("SELECT pg_advisory_unlock_all()")


def patiently(step: Callable[[], T]) -> T:
    """The step's answer; called again after a pause while it meets a lock, the last refusal is raised.

    ``step`` must be safe to repeat. Other errors are raised at once.
    """
    for pause in PAUSES:
        try:
            return step()
        except DBAPIError as error:
            if sqlstate(error) not in LOCKED:
                raise
        time.sleep(pause)
    return step()
