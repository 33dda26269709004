"""A transaction without round trips of its own: BEGIN goes with its first statement, COMMIT with its last.

The driver sends BEGIN and COMMIT by themselves, and each has a process of the server woken for it: half of the four
round trips of a single operation. So the driver is told that there is no transaction, and the server is told here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from sessions.store.statements import BEGINS

_IDLE = 0
"""libpq's PQTRANS_IDLE."""


@contextmanager
def joined(engine: Engine) -> Iterator[Connection]:
    """A connection whose first :func:`sessions.store.statements.run` begins a transaction, which ends with the block:
    committed, unless a statement has done so (``commit``), or rolled back when the block raises.

    Until that first statement, anything else that runs on the connection is committed by itself.
    """
    with engine.connect() as db:
        driver: Any = db.connection.dbapi_connection
        info = db.info
        driver.autocommit, info[BEGINS] = True, True
        try:
            yield db
            if driver.info.transaction_status != _IDLE:
                db.exec_driver_sql("COMMIT")
        finally:
            info.pop(BEGINS, None)
            _end(db, driver)


def _end(db: Connection, driver: Any) -> None:
    """The connection as the pool knows it; without a transaction that is still open, or else not at all."""
    if db.invalidated:
        return
    try:
        if driver.info.transaction_status != _IDLE:
            db.exec_driver_sql("ROLLBACK")
        driver.autocommit = False
    except (DBAPIError, db.dialect.loaded_dbapi.Error) as error:
        db.invalidate(error)
