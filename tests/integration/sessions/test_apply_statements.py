"""Prepared statements of the write path: kept per connection, through roll-backs, and not without end."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, Connection, MetaData, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DataError

from sessions.store import statements
from tests.support.months import Database


def prepared(db: Connection) -> set[str]:
    return set(db.execute(text("SELECT name FROM pg_prepared_statements")).scalars())


def test_a_statement_is_prepared_once_and_outlives_a_roll_back(database: Database) -> None:
    with database.owner.connect() as db:
        for number in (1, 2):
            assert statements.run(db, "SELECT 6 / $1", ("int",), (number,)).rows[0][0] == 6 // number
        with pytest.raises(DataError):
            statements.run(db, "SELECT 6 / $1", ("int",), (0,))
        db.rollback()
        assert statements.run(db, "SELECT 6 / $1", ("int",), (3,)).rows[0][0] == 2
        assert len(prepared(db)) == 1


def test_a_connection_keeps_so_many_and_begins_anew(database: Database) -> None:
    with database.owner.connect() as db:
        for number in range(statements.MOST + 5):
            assert statements.run(db, f"SELECT {number} + $1", ("int",), (1,)).rows[0][0] == number + 1
        assert len(prepared(db)) == len(db.info["prepared"]) == 5


def test_values_are_values(database: Database) -> None:
    odd = ["%s %(a)s $1 'quoted' \"double\" \\ \\u0041 \n \x1e \x1f", "ä 漢 \U0001f600", "", None]
    table = Table("odd", MetaData(), Column("word", Text), Column("one", JSONB), Column("two", JSONB))
    names = ("one", "word", "two")
    for values in (odd, [None], [None, None], [""]):
        rows = [{"one": None if value is None else {"in": [value]}, "word": value, "two": value} for value in values]
        with database.owner.connect() as db:
            sql, types = statements.rows_of(table, names, 1), statements.types(table, names)
            found = statements.run(db, sql, types, statements.parameters(table, rows)).rows
        assert found == [tuple(row[name] for name in names) for row in rows]
