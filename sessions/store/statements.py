"""Statements of the write path: prepared once per connection, rows as one JSON parameter per table.

A table's rows travel as a JSON array, so the text of a statement does not depend on their number and
the server plans it once. PostgreSQL converts each value to its column's type, as it does for any literal.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError

from sessionfleet.jsontext import encode

MOST = 200
"""Statements one connection keeps prepared; beyond them it begins anew."""

_dialect = postgresql.dialect()  # type: ignore[no-untyped-call]

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ran:
    """What a statement came to."""

    rows: list[tuple[Any, ...]]
    """Returned rows; empty where it returns none."""
    count: int
    """Rows it returned or wrote."""


def run(
    db: Connection,
    sql: str,
    types: Sequence[str],
    parameters: Sequence[Any],
    *,
    lock_seconds: int | None = None,
    by_index: bool = False,
) -> Ran:
    """Execute ``sql`` (parameters ``$1``, ``$2``, ... of ``types``), prepared on this connection.

    The text must come from a small set: no values in it. PREPARE outlives a roll-back, as does our note of it.
    ``lock_seconds``: how long it, and what follows in this transaction, waits for a lock, in place of the
    connection's own limit; set in the same round trip. ``by_index``: plan it over indexes, also where the tables
    were empty when PostgreSQL last looked.
    Works past SQLAlchemy's result rows, which cost more than the statement; raises its errors all the same.
    """
    if not db.in_transaction():
        db.begin()  # as SQLAlchemy does for a statement of its own, so that its rollback ends this one
    with closing(db.connection.cursor()) as cursor:
        try:
            name = _prepared(db, cursor, sql, types)
            before = "" if lock_seconds is None else f"SET LOCAL lock_timeout = '{lock_seconds}s'; "
            if by_index:
                before += "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; "
            places = ", ".join(["%s"] * len(parameters))
            cursor.execute(f"{before}EXECUTE {name} ({places})", tuple(parameters))
            return Ran(list(cursor.fetchall()) if cursor.description else [], cursor.rowcount)
        except db.dialect.loaded_dbapi.Error as error:
            raise _wrapped(db, sql, error) from error


def _prepared(db: Connection, cursor: Any, sql: str, types: Sequence[str]) -> str:
    """The name under which the connection knows the statement."""
    known: dict[str, str] = db.info.setdefault("prepared", {})
    name = known.get(sql)
    if name is None:
        if len(known) >= MOST:
            cursor.execute("DEALLOCATE ALL")
            known.clear()
        name = f"fleet_{len(known)}"
        cursor.execute(f"PREPARE {name} ({', '.join(types)}) AS {sql}")
        known[sql] = name
    return name


def _wrapped(db: Connection, sql: str, error: Exception) -> DBAPIError:
    """The driver's error as SQLAlchemy raises it; a lost connection leaves the pool."""
    lost = db.dialect.is_disconnect(error, db.connection.dbapi_connection, None)  # type: ignore[arg-type]
    if lost:
        db.invalidate(error)
    base = db.dialect.loaded_dbapi.Error
    made = DBAPIError.instance(sql, None, error, base, connection_invalidated=lost, dialect=db.dialect)
    return cast(DBAPIError, made)


def as_json(rows: Sequence[Row]) -> str:
    """Rows as the parameter of :func:`recordset`: uuids and instants as text."""
    return encode(rows).decode()


@lru_cache(maxsize=1024)
def recordset(table: Table, names: tuple[str, ...], parameter: int) -> str:
    """Rows of some columns of ``table`` from JSON parameter number ``parameter``, as a FROM item called new."""
    columns = ", ".join(f'"{name}" {table.c[name].type.compile(_dialect)}' for name in names)
    return f"json_to_recordset(${parameter}) AS new({columns})"


@lru_cache(maxsize=1024)
def insert(table: Table, names: tuple[str, ...], parameter: int) -> str:
    """INSERT of the rows of a JSON parameter, in their order."""
    columns, source = names_of(names), recordset(table, names, parameter)
    return f"INSERT INTO {table.name} ({columns}) SELECT {columns} FROM {source}"  # noqa: S608 - names of ours


@lru_cache(maxsize=1024)
def update(table: Table, names: tuple[str, ...], parameter: int) -> str:
    """UPDATE by ``id``, which comes first in the rows, of the other columns in them."""
    changes = ", ".join(f'"{name}" = new."{name}"' for name in names if name != "id")
    source = recordset(table, names, parameter)
    return f"UPDATE {table.name} AS old SET {changes} FROM {source} WHERE old.id = new.id"  # noqa: S608 - names of ours


def names_of(names: Collection[str], prefix: str = "") -> str:
    """Column names as SQL."""
    return ", ".join(f'{prefix}"{name}"' for name in names)
