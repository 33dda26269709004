"""Statements of the write path: prepared once per connection, rows as a few parameters per table.

A table's rows travel as a JSON array, so the text of a statement does not depend on their number and
the server plans it once. PostgreSQL converts each value to its column's type, as it does for any literal.
Values of JSON and JSONB columns go beside the array, a text per column: within it the server would parse each of
them twice, which was a fifth of what a write cost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any, cast

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError

from sessionfleet.jsontext import encode

MOST = 200
"""Statements one connection keeps prepared; beyond them it begins anew."""

BEGINS = "begins"
"""In the info of a connection whose next statement begins a transaction (:mod:`sessions.store.transaction`)."""

SEPARATOR = b"\x1e"
"""Between the values of a JSON or JSONB column: within JSON text a control character is always escaped."""

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
    commit: bool = False,
) -> Ran:
    """Execute ``sql`` (parameters ``$1``, ``$2``, ... of ``types``), prepared on this connection.

    The text must come from a small set: no values in it. PREPARE outlives a roll-back, as does our note of it.
    ``lock_seconds``: how long it, and what follows in this transaction, waits for a lock, in place of the
    connection's own limit; set in the same round trip. ``by_index``: plan it over indexes, also where the tables
    were empty when PostgreSQL last looked. ``commit``: COMMIT goes along, in a transaction of
    :func:`sessions.store.transaction.joined`; the statement returns no rows then.
    Works past SQLAlchemy's result rows, which cost more than the statement; raises its errors all the same.
    """
    if not db.in_transaction():
        db.begin()  # as SQLAlchemy does for a statement of its own, so that its rollback ends this one
    with closing(db.connection.cursor()) as cursor:
        try:
            name = _prepared(db, cursor, sql, types)
            before = "BEGIN; " if db.info.pop(BEGINS, False) else ""
            if lock_seconds is not None:
                before += f"SET LOCAL lock_timeout = '{lock_seconds}s'; "
            if by_index:
                before += "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; "
            places = ", ".join(["%s"] * len(parameters))
            after = "; COMMIT" if commit else ""
            cursor.execute(f"{before}EXECUTE {name} ({places}){after}", tuple(parameters))
            return Ran(list(cursor.fetchall()) if cursor.description else [], cursor.rowcount)
        except db.dialect.loaded_dbapi.Error as error:
            raise _wrapped(db, sql, error) from error


def _prepared(db: Connection, cursor: Any, sql: str, types: Sequence[str]) -> str:
    """The name under which the connection knows the statement. None is given twice: where a time limit interrupts
    this, the server may have prepared what is not noted here."""
    known: dict[str, str] = db.info.setdefault("prepared", {})
    name = known.get(sql)
    if name is None:
        if len(known) >= MOST:
            known.clear()
            cursor.execute("DEALLOCATE ALL")
        name = f"fleet_{next(db.info.setdefault('names', count()))}"
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


def parameters(table: Table, rows: Sequence[Row]) -> list[str]:
    """Rows, all of the same columns, as the parameters of :func:`rows_of`."""
    plain, documents = _split(table, tuple(rows[0]))
    texts = [encode([{name: row[name] for name in plain} for row in rows]).decode()]
    for name in documents:
        values = [row[name] for row in rows]
        texts.append(SEPARATOR.join([b"" if value is None else encode(value) for value in values]).decode())
    return texts


def types(table: Table, names: tuple[str, ...]) -> list[str]:
    """The types of :func:`parameters`."""
    return ["json", *["text"] * len(_split(table, names)[1])]


@lru_cache(maxsize=1024)
def rows_of(table: Table, names: tuple[str, ...], parameter: int) -> str:
    """Rows of some columns of ``table`` from parameters number ``parameter`` and up, as a query."""
    plain, documents = _split(table, names)
    columns = ", ".join(f'"{name}" {_sql_type(table, name)}' for name in plain)
    numbers = range(parameter + 1, parameter + 1 + len(documents))
    beside = [f"unnest(string_to_array(${number}, E'\\x1e', ''))" for number in numbers]  # nothing stands for NULL
    sources = [f"json_to_recordset(${parameter}) AS ({columns})", *beside]
    read = ", ".join(f'"{name}"::{_sql_type(table, name)}' if name in documents else f'"{name}"' for name in names)
    new = names_of([*plain, *documents])
    return f"SELECT {read} FROM ROWS FROM ({', '.join(sources)}) AS new({new})"  # noqa: S608 - names of ours


@lru_cache(maxsize=1024)
def insert(table: Table, names: tuple[str, ...], parameter: int) -> str:
    """INSERT of the rows of some parameters, in their order."""
    rows = rows_of(table, names, parameter)
    return f"INSERT INTO {table.name} ({names_of(names)}) {rows}"


@lru_cache(maxsize=1024)
def update(table: Table, names: tuple[str, ...], parameter: int) -> str:
    """UPDATE by ``id`` of the other columns in the rows; after their parameters comes :func:`array` of all ids.

    Of a JSON array the planner expects a hundred rows: it would read a small table whole to change one.
    """
    changes = ", ".join(f'"{name}" = new."{name}"' for name in names if name != "id")
    source, ids = rows_of(table, names, parameter), parameter + len(types(table, names))
    found = f"old.id = new.id AND old.id = ANY (${ids}::uuid[])"
    return f"UPDATE {table.name} AS old SET {changes} FROM ({source}) AS new WHERE {found}"  # noqa: S608 - names of ours


@lru_cache(maxsize=1024)
def _split(table: Table, names: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those columns that go in the array, and the columns of documents beside it."""
    documents = tuple(name for name in names if isinstance(table.c[name].type, postgresql.JSON))
    return tuple(name for name in names if name not in documents), documents


def _sql_type(table: Table, name: str) -> str:
    return table.c[name].type.compile(_dialect)


def array(words: Iterable[str]) -> str:
    """A parameter of an array type, of words without blanks and quotes."""
    return f"{{{','.join(words)}}}"


def names_of(names: Collection[str], prefix: str = "") -> str:
    """Column names as SQL."""
    return ", ".join(f'{prefix}"{name}"' for name in names)
