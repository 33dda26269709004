"""A transaction whose BEGIN and COMMIT go with its statements: all or nothing, and the connection as it was."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DataError, DBAPIError

from sessions.store import statements
from sessions.store.transaction import joined
from tests.support import Servers, eventually
from workers.resources import build_engine
from workers.settings import Settings

INSERT = ("INSERT INTO kept VALUES (6 / $1)", ("int",))


@pytest.fixture
def engine(servers: Servers) -> Iterator[Engine]:
    """Of one connection, so that what a transaction leaves behind meets the next one."""
    few = {"FLEET_POOL_SIZE": "1", "FLEET_MAX_OVERFLOW": "1"}
    made = build_engine(Settings.load(few, database_url=servers.new_database()), owner=True)
    with made.begin() as db:
        db.execute(text("CREATE TABLE kept (number integer)"))
    yield made
    made.dispose()


def kept(engine: Engine) -> list[int]:
    """What is committed; on the pool's first connection, which must be in no transaction and begin its own."""
    with engine.connect() as db:
        found = list(db.execute(text("SELECT number FROM kept ORDER BY number")).scalars())
        assert db.scalar(text("SELECT now() = statement_timestamp()")) is False, "its second statement"
        assert "begins" not in db.info
    return found


@pytest.mark.parametrize("last", [True, False])
def test_it_is_committed_at_the_end_or_by_its_last_statement(engine: Engine, last: bool) -> None:
    with joined(engine) as db:
        statements.run(db, *INSERT, [1])
        assert seen_by_others(engine) == 0
        statements.run(db, *INSERT, [2], commit=last)
        assert seen_by_others(engine) == (2 if last else 0)
    assert kept(engine) == [3, 6]


def test_statements_of_sqlalchemy_are_part_of_it(engine: Engine) -> None:
    with joined(engine) as db:
        statements.run(db, *INSERT, [1])
        db.execute(text("UPDATE kept SET number = number + 1"))
        assert seen_by_others(engine) == 0
    assert kept(engine) == [7]


def test_the_time_to_wait_for_locks_is_its_own(engine: Engine) -> None:
    asked = ("SELECT current_setting($1)", ("text",), ["lock_timeout"])
    with joined(engine) as db:
        assert statements.run(db, *asked, lock_seconds=7).rows == [("7s",)]
    with joined(engine) as db:
        assert statements.run(db, *asked).rows == [("30s",)]


def test_nothing_is_left_of_one_that_fails(engine: Engine) -> None:
    with pytest.raises(DataError), joined(engine) as db:
        statements.run(db, *INSERT, [1])
        statements.run(db, *INSERT, [0], commit=True)
    with pytest.raises(DataError), joined(engine) as db:
        statements.run(db, *INSERT, [0])
    with pytest.raises(KeyError), joined(engine) as db:
        statements.run(db, *INSERT, [1])
        raise KeyError
    with joined(engine):
        pass
    assert kept(engine) == []


def test_a_connection_that_is_lost_in_it_leaves_the_pool(engine: Engine) -> None:
    with pytest.raises(DBAPIError) as caught, joined(engine) as db:
        [(pid,)] = statements.run(db, "SELECT pg_backend_pid() + $1", ("int",), [0]).rows
        with engine.connect() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        statements.run(db, *INSERT, [1], commit=True)
    assert caught.value.connection_invalidated
    with joined(engine) as db:
        statements.run(db, *INSERT, [1], commit=True)
    assert kept(engine) == [6]


def test_one_that_is_lost_while_nothing_runs(engine: Engine) -> None:
    """The block's own error goes on, whatever rolling back comes to."""
    with pytest.raises(KeyError), joined(engine) as db:
        [(pid,)] = statements.run(db, "SELECT pg_backend_pid() + $1", ("int",), [0]).rows
        with engine.connect() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        raise KeyError
    assert kept(engine) == []


class Interrupted(Exception):
    pass


def test_one_that_is_interrupted_while_it_prepares(engine: Engine) -> None:
    """A time limit is a signal, handled when the server has answered: what it has prepared is not noted here then,
    and must not be in the way of what comes next on this connection."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    def let_it_go() -> None:
        eventually(lambda: bool(other.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))))
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        other.commit()

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with ThreadPoolExecutor(1) as pool, create_engine(engine.url).connect() as other:
            other.execute(text("LOCK TABLE kept"))
            letting_go = pool.submit(let_it_go)
            with pytest.raises(Interrupted), joined(engine) as db:
                statements.run(db, *INSERT, [1])
            letting_go.result(20)
    finally:
        signal.signal(signal.SIGUSR1, before)
    with joined(engine) as db:
        statements.run(db, *INSERT, [2], commit=True)
    assert kept(engine) == [3]


def seen_by_others(engine: Engine) -> int:
    with engine.connect() as db:
        return int(db.scalar(text("SELECT count(*) FROM kept")))
