"""The pool's connections when PostgreSQL ends them (row A-12)."""

from __future__ import annotations

from sqlalchemy import Engine, text

from tests.support import Servers
from workers.resources import build_engine
from workers.settings import Settings


def test_one_that_is_lost_while_somebody_has_it_in_autocommit(servers: Servers) -> None:
    """No error for who was done with it, a live one for who comes next."""
    engine = build_engine(Settings.load({}, database_url=servers.new_database()), owner=True)
    try:
        first = used(engine)
        assert used(engine, lost=True) == first, "the second time the driver asks the server to set the level back"
        assert used(engine) != first
    finally:
        engine.dispose()


def used(engine: Engine, *, lost: bool = False) -> int:
    """The process of a connection that is taken in autocommit, and ended by somebody if ``lost``, and given back."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        pid = int(db.scalar(text("SELECT pg_backend_pid()")))
        if lost:
            with engine.connect() as other:
                other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    return pid
