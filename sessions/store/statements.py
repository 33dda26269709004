"""Statements of the write path: prepared once per connection, rows as one JSON parameter per table.

A table's rows travel as a JSON array, so the text of a statement does not depend on their number and
the server plans it once. PostgreSQL converts each value to its column's type, as it does for any literal.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, CursorResult, Table
from sqlalchemy.dialects import postgresql

MOST = 200
"""Statements one connection keeps prepared; beyond them it begins anew."""

_dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
_encode = json.JSONEncoder(default=str, separators=(",", ":")).encode

Row = dict[str, Any]


def run(db: Connection, sql: str, types: Sequence[str], parameters: Sequence[Any]) -> CursorResult[Any]:
    """Execute ``sql`` (parameters ``$1``, ``$2``, ... of ``types``), prepared on this connection.

    The text must come from a small set: no values in it. PREPARE outlives a roll-back, as does our note of it.
    """
    prepared: dict[str, str] = db.info.setdefault("prepared", {})
    name = prepared.get(sql)
    if name is None:
        if len(prepared) >= MOST:
            db.exec_driver_sql("DEALLOCATE ALL")
            prepared.clear()
        name = f"fleet_{len(prepared)}"
        db.exec_driver_sql(f"PREPARE {name} ({', '.join(types)}) AS {sql}")
        prepared[sql] = name
    return db.exec_driver_sql(f"EXECUTE {name} ({', '.join(['%s'] * len(parameters))})", tuple(parameters))


def as_json(rows: Sequence[Row]) -> str:
    """Rows as the parameter of :func:`recordset`: uuids and instants as text."""
    return _encode(rows)


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
