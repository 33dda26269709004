"""Pages that end early by bytes: what one answer carries is bounded, however large its rows are (rows Q-02, D-13).

A limit in rows bounds nothing where a row may have megabytes: a thousand of those are more than Redis takes for one
value, and more than a worker should hold. So rows are read in parts that weigh little in the table, and the page ends
where its rows have about ANSWER_BYTES. A page of ordinary rows is one part, and one statement as without.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import reduce
from typing import Any

from sqlalchemy import ColumnElement, Connection, Executable, FromClause, Row, Select, Text, cast, func, or_, select

ANSWER_BYTES = 16 * 1024 * 1024
"""What the items of one answer have together, about; one always fits. Subscribers that Redis makes wait for more than
32 MB are cut off by default."""

PART_BYTES = 1024 * 1024
"""Stored size of the rows that one statement reads, about. It may be compressed: as JSON they have more."""

Columns = Callable[[FromClause], Iterable[ColumnElement[Any]]]


class Page:
    """Rows for one answer: at most ``limit``, about ``most`` bytes. ``more``: there are others behind them."""

    def __init__(self, limit: int, most: int = ANSWER_BYTES) -> None:
        self.rows: list[Row[Any]] = []
        self.more = False
        self._limit, self._left = limit, most

    def fill(
        self,
        db: Connection,
        query: Callable[[Row[Any] | None, int], Executable],
        weight: Callable[[Row[Any]], int],
    ) -> None:
        """Adds what ``query(last, limit)`` answers, a :func:`part` of the rows after ``last``. ``weight``: about the
        bytes of a row as JSON. Needs no snapshot of its own: a row that changes meanwhile comes as it is then."""
        last: Row[Any] | None = None
        while not self.more:
            found = db.execute(query(last, self._limit - len(self.rows) + 1)).all()
            for row in found:
                self._left -= weight(row)
                if len(self.rows) == self._limit or (self.rows and self._left < 0):
                    self.more = True
                    return
                self.rows.append(row)
            if not found or found[-1].found == len(found):
                return
            last = found[-1]


def length_of(column: ColumnElement[Any]) -> ColumnElement[int]:
    """The bytes of a JSON value as text."""
    return func.coalesce(func.octet_length(cast(column, Text)), 0)


def part(
    rows: FromClause, order: Sequence[str], heavy: Collection[str], columns: Columns, *, descending: bool = False
) -> Select[Any]:
    """The first of ``rows`` that have PART_BYTES together, at least one, and how many there are in all as ``found``.

    ``rows`` has an order, that of the columns ``order``, and a limit. ``heavy``: columns that may be large. They are
    weighed as they are stored, and nothing is read from the side tables for rows that are left out.
    """
    names = [rows.c[name] for name in order]
    by = [name.desc() for name in names] if descending else names
    sizes: Iterable[ColumnElement[int]] = (func.coalesce(func.pg_column_size(rows.c[name]), 0) for name in heavy)
    stored = reduce(operator.add, sizes)
    weighed = select(
        rows,
        func.row_number().over(order_by=by).label("place"),
        func.sum(stored).over(order_by=by, rows=(None, 0)).label("stored"),
        func.count().over().label("found"),
    ).subquery()
    c = weighed.c
    return select(*columns(weighed), c.found).where(or_(c.place == 1, c.stored <= PART_BYTES)).order_by(c.place)
