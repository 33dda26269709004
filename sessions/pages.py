"""Pages that end early by bytes: what one answer carries is bounded, however large its rows are (rows Q-02, D-13).

A limit in rows bounds nothing where a row may have megabytes: a thousand of those are more than Redis takes for one
value, and more than a worker should hold. So rows are read in parts that weigh little in the table, and the page ends
where its rows have about ANSWER_BYTES. A page of ordinary rows is one part, and one statement as without.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from typing import Any

from sqlalchemy import ColumnElement, Connection, Executable, FromClause, Row, Select, func, or_, select

ANSWER_BYTES = 16 * 1024 * 1024
"""What the items of one answer have together, about; one always fits. Subscribers that Redis makes wait for more than
32 MB are cut off by default."""

PART_BYTES = 1024 * 1024
"""Stored size of the rows that one statement reads, about. It may be compressed: as JSON they have more."""


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


def stored_size(*columns: ColumnElement[Any]) -> ColumnElement[int]:
    """What these columns take in the table, as the column ``size`` that :func:`part` needs. They may be compressed,
    and nothing is read from the side tables to tell."""
    sizes: Iterable[ColumnElement[int]] = (func.coalesce(func.pg_column_size(column), 0) for column in columns)
    return reduce(operator.add, sizes).label("size")


def part(
    rows: FromClause,
    order: Sequence[str],
    shown: Callable[[FromClause], Select[Any]],
    *,
    descending: bool = False,
) -> Select[Any]:
    """The first of ``rows`` that have PART_BYTES together, at least one, and how many there are in all as ``found``.

    ``rows`` has an order, that of the columns ``order``, a limit, and a :func:`stored_size`. ``shown``: what is
    selected of them; to have a row of many columns selected from its table is faster than to pass it through here.
    """
    by = [rows.c[name].desc() if descending else rows.c[name] for name in order]
    weighed = select(
        rows,
        func.row_number().over(order_by=by).label("place"),
        func.sum(rows.c.size).over(order_by=by, rows=(None, 0)).label("stored"),
        func.count().over().label("found"),
    ).subquery()
    c = weighed.c
    wanted = or_(c.place == 1, c.stored <= PART_BYTES)
    return shown(weighed).add_columns(c.found).where(wanted).order_by(c.place)
