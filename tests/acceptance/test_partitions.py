"""Months of events and audit: always there, leaving in time, without a writer noticing (J-01..J-04)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from threading import Event
from typing import Any

import pytest
from sqlalchemy import Engine, NullPool, create_engine, event, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from history.ddl import sqlstate
from history.detach import AUDIT
from history.month import PARENTS, create_months, missing_partition
from history.partition_upkeep import Upkeep, maintain
from history.partitions import ensure, months, pending_detaches
from tests.support import eventually
from tests.support.months import SCHEMA, Database, insert_event, months_back


def upkeep(database: Database, *, ahead: int = 3, retention_months: int = 6, dry_run: bool = False) -> Upkeep:
    return maintain(database.owner, SCHEMA, ahead=ahead, retention_months=retention_months, dry_run=dry_run)


def write(database: Database, at: datetime) -> None:
    """What the fleet's writer does: one unit on both tables, again once after a missing month."""

    def unit() -> None:
        with database.app.begin() as conn:
            for parent in PARENTS:
                insert_event(conn, parent, at)

    try:
        unit()
    except IntegrityError as error:
        if missing_partition(error) is None:
            raise
        create_months(database.app, at)
        unit()


def test_an_empty_database_gets_this_month_and_the_next_three(database: Database) -> None:
    """AT-J1: exactly the current month and partitions_ahead=3, in UTC; a second run has nothing to do."""
    first = upkeep(database)
    wanted = list(months(database.now(), 4))

    for parent in PARENTS:
        assert [p.lower for p in database.partitions(parent)] == wanted
        assert database.names(parent) == [f"{parent}_{month:%Y_%m}" for month in wanted]
    assert sorted(first["created"]) == sorted(f"{p}_{m:%Y_%m}" for p in PARENTS for m in wanted)
    assert upkeep(database)["created"] == []


@pytest.mark.parametrize("ahead", [1, 24])
def test_as_many_months_ahead_as_the_setting_says(database: Database, ahead: int) -> None:
    """AT-J1: both ends of partitions_ahead."""
    ensure(database.owner, SCHEMA, ahead=ahead)

    assert [len(database.partitions(parent)) for parent in PARENTS] == [ahead + 1, ahead + 1]


def test_event_times_of_the_next_24_months_never_fail(database: Database) -> None:
    """AT-J1: maintenance is late by all of them; the first and the last instant of each month."""
    run = list(months(database.now(), 25))
    for first, following in pairwise(run):
        write(database, following - (following - first) / 10_000_000)
        write(database, first)

    assert [p.lower for p in database.partitions(AUDIT)] == run[:-1]


def test_months_over_their_retention_leave_and_nothing_else_does(database: Database) -> None:
    """AT-J2: of months 1 to 12 months old those over 6 go; tables that only look alike stay."""
    now = database.now()
    old = [months_back(now, age) for age in range(12, 0, -1)]
    for month in (*old, now):
        create_months(database.app, month)
        write(database, month)
    database.run("CREATE TABLE audit_events_0backup AS SELECT * FROM audit_events")
    database.run("CREATE TABLE audit_events_2001_01 (note text)")
    database.run("CREATE TABLE other_events (at timestamptz) PARTITION BY RANGE (at)")
    database.run(
        "CREATE TABLE audit_events_2001_02 PARTITION OF other_events FOR VALUES FROM ('2001-02-01') TO ('2001-03-01')"
    )

    planned = upkeep(database, dry_run=True)
    assert len(database.partitions(AUDIT)) == 13
    done = upkeep(database)

    over_six = [f"{AUDIT}_{month:%Y_%m}" for month in old[:6]]
    assert planned["detached"] == done["detached"] == over_six
    kept = {p.lower for p in database.partitions(AUDIT)}
    assert kept == {*old[6:], *months(now, 4)}
    assert len(database.partitions("session_events")) == 16
    for table in (*over_six, "audit_events_0backup", "audit_events_2001_01", "audit_events_2001_02"):
        assert database.has_table(table)
    with database.owner.connect() as conn:
        assert [conn.scalar(text(f"SELECT count(*) FROM {table}")) for table in over_six] == [1] * 6
        assert conn.scalar(text("SELECT count(*) FROM audit_events_0backup")) == 13


def test_a_partition_leaves_by_its_bound_whatever_its_name(database: Database) -> None:
    """AT-J2: one named like next year is old, one named like 2001 is not."""
    now = database.now()
    old, newer = months_back(now, 20), months_back(now, 19)
    database.run(f"CREATE TABLE audit_events_2099_01 PARTITION OF {AUDIT} FOR VALUES FROM ('{old}') TO ('{newer}')")
    recent, current = months_back(now, 1), months_back(now, 0)
    database.run(
        f"CREATE TABLE audit_events_2001_01 PARTITION OF {AUDIT} FOR VALUES FROM ('{recent}') TO ('{current}')"
    )

    assert upkeep(database)["detached"] == ["audit_events_2099_01"]
    assert "audit_events_2001_01" in database.names(AUDIT)


def test_every_run_is_in_the_log_with_its_result(database: Database) -> None:
    """J-03: what the duty answered, exactly; a dry run leaves no trace."""
    create_months(database.app, months_back(database.now(), 9))
    upkeep(database, dry_run=True)
    answers = [upkeep(database), upkeep(database)]

    assert logged(database) == answers
    assert answers[0]["detached"]
    assert answers[1]["detached"] == []


def test_one_run_at_a_time(database: Database) -> None:
    """J-03: a second run beside the first does nothing and says so; it may run when the first is gone."""
    with database.owner.connect() as first:
        first.exec_driver_sql("SELECT pg_advisory_lock(hashtextextended('maintenance.partition_maintain:public', 0))")
        beside = upkeep(database)

    assert beside["skipped"]
    assert beside["created"] == []
    assert beside["runway_days"] == {"session_events": 0.0, "audit_events": 0.0}
    assert not upkeep(database)["skipped"]


def logged(database: Database) -> list[dict[str, Any]]:
    query = "SELECT result FROM maintenance_log WHERE duty = :duty AND finished_at >= started_at ORDER BY id"
    with database.app.connect() as conn:
        return list(conn.scalars(text(query), {"duty": "maintenance.partition_maintain"}))


BLOCKED_MS = 1000
"""Ten times the bar of 100 ms: on a busy machine who holds a short lock may lose its processor meanwhile."""

BREATH = 0.02
"""Seconds between two writes of a writer: it notices a lock as well as one that takes all the processor it gets."""


@contextmanager
def writers(database: Database, number: int) -> Iterator[tuple[list[int], Counter[str]]]:
    """``number`` threads that write this month's rows, each commit by itself, with a breath between two.

    A writer gives up a lock after BLOCKED_MS (lock_timeout): that counts waiting for locks and nothing
    else, so a slow machine does not look like a blocked one. Yields writes per thread, and failures.
    """
    engine = create_engine(
        database.url, poolclass=NullPool, connect_args={"options": f"-c lock_timeout={BLOCKED_MS}"}
    )
    written, failed, stop = [0] * number, Counter[str](), Event()

    def run(writer: int) -> None:
        with engine.connect() as conn:
            while not stop.wait(BREATH):
                try:
                    for parent in PARENTS:
                        insert_event(conn, parent, datetime.fromisoformat(str(conn.scalar(text("SELECT now()")))))
                    conn.commit()
                    written[writer] += 1
                except DBAPIError as error:
                    failed[sqlstate(error) or str(error)] += 1
                    conn.rollback()

    with ThreadPoolExecutor(number) as pool:
        running = [pool.submit(run, writer) for writer in range(number)]
        try:
            yield written, failed
        finally:
            stop.set()
    for thread in running:
        thread.result()


@contextmanager
def long_transaction(engine: Engine) -> Iterator[None]:
    """Somebody who wrote to both tables and has not committed."""
    with engine.connect() as conn:
        for parent in PARENTS:
            insert_event(conn, parent, datetime.fromisoformat(str(conn.scalar(text("SELECT now()")))))
        yield


def test_a_run_that_ends_has_let_the_next_one_in(database: Database) -> None:
    """Before its connection is closed: the server may notice that late, and the next run would be skipped."""
    held: list[int] = []
    locks = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")

    def closing(*_: Any) -> None:
        with database.app.connect() as conn:
            held.append(conn.execute(locks).scalar_one())

    event.listen(database.owner, "close_detached", closing)
    try:
        upkeep(database)
    finally:
        event.remove(database.owner, "close_detached", closing)
    assert held == [0]


def test_32_writers_notice_nothing_of_attach_and_detach(database: Database) -> None:
    """AT-J3: 0 writes failed and 0 waited for a lock longer than a busy machine explains, also while a long
    transaction makes a detach wait its 2 s; every writer went on."""
    upkeep(database, ahead=1)
    now = database.now()
    with writers(database, 32) as (written, failed):
        for age in range(14, 6, -1):
            create_months(database.app, months_back(now, age))
        with long_transaction(database.owner):
            before = list(written)
            beside = upkeep(database, ahead=24, retention_months=13)
            during = [after - earlier for after, earlier in zip(written, before, strict=True)]
        rest = upkeep(database, ahead=24)

    assert failed == Counter()
    assert min(during) > 0
    assert len(beside["created"]) == 2 * 23
    assert len(beside["detached"]) == 1
    assert len(rest["detached"]) == 7
    assert beside["postponed"] == rest["postponed"] == []


def test_a_detach_that_a_reader_holds_up_is_finalized_by_the_next_run(database: Database) -> None:
    """AT-J3: its rows are safe, other months take writes, the next run ends it."""
    now = database.now()
    old = months_back(now, 8)
    for month in (old, now):
        create_months(database.app, month)
    write(database, old)
    with database.owner.connect() as reader:
        reader.execute(text(f"SELECT count(*) FROM {AUDIT}"))
        held_up = upkeep(database)
        assert held_up["postponed"] == half_detached(database) == [f"{AUDIT}_{old:%Y_%m}"]
        write(database, now)

    ended = upkeep(database)

    assert ended["finalized"] == held_up["postponed"]
    assert ended["detached"] == ended["postponed"] == []
    assert half_detached(database) == []
    with database.owner.connect() as conn:
        assert conn.scalar(text(f"SELECT count(*) FROM {AUDIT}_{old:%Y_%m}")) == 1


def test_a_detach_killed_halfway_is_finalized_by_the_next_run(database: Database) -> None:
    """AT-J3: the killed run holds up nobody, the next one ends its detach and goes on with the others."""
    now = database.now()
    oldest, old = months_back(now, 9), months_back(now, 8)
    for month in (oldest, old, now):
        create_months(database.app, month)
    with ThreadPoolExecutor(1) as pool:
        with database.owner.connect() as reader:
            reader.execute(text(f"SELECT count(*) FROM {AUDIT}"))
            run = pool.submit(upkeep, database)
            eventually(lambda: half_detached(database))
            kill = (
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND query LIKE 'ALTER TABLE%DETACH%'"
            )
            assert reader.execute(text(kill)).all() == [(True,)]
            with pytest.raises(OperationalError):
                run.result()
        assert half_detached(database) == [f"{AUDIT}_{oldest:%Y_%m}"]
        [failure] = logged(database)
        assert failure["error"].startswith("OperationalError: ")
        assert failure["detached"] == []

    ended = upkeep(database)

    assert ended["finalized"] == [f"{AUDIT}_{oldest:%Y_%m}"]
    assert ended["detached"] == [f"{AUDIT}_{old:%Y_%m}"]
    assert half_detached(database) == []


def half_detached(database: Database) -> list[str]:
    with database.owner.connect() as conn:
        return pending_detaches(conn, SCHEMA)
