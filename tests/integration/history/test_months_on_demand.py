"""A month is made when an insert misses it (J-02), by anyone, once, whatever the session is set to."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError

from history.ddl import sqlstate
from history.month import PARENTS, create_month, create_months, missing_partition
from tests.support.months import Database, insert_event, months_back

JUNE = datetime.fromisoformat("2031-06-15T12:00Z")


@pytest.mark.parametrize("parent", PARENTS)
def test_a_missing_month_is_recognized_made_and_used(database: Database, parent: str) -> None:
    with pytest.raises(IntegrityError) as refused, database.app.begin() as conn:
        insert_event(conn, parent, JUNE)

    assert missing_partition(refused.value) == parent
    assert missing_partition(refused.value.orig) == parent
    assert create_month(database.app, parent, JUNE) == f"{parent}_2031_06"
    with database.app.begin() as conn:
        insert_event(conn, parent, JUNE)


def test_a_month_that_is_there_is_not_made_again(database: Database) -> None:
    assert create_months(database.app, JUNE) == ["session_events_2031_06", "audit_events_2031_06"]
    assert create_months(database.app, JUNE) == []


def test_32_callers_make_one_month(database: Database) -> None:
    with ThreadPoolExecutor(32) as pool:
        made = list(pool.map(lambda _: create_month(database.app, "audit_events", JUNE), range(32)))

    assert sorted(filter(None, made)) == ["audit_events_2031_06"]
    assert "audit_events_2031_06" in database.names("audit_events")


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize("style", ["ISO", "German"])
def test_months_are_utc_whatever_the_session_says(database: Database, zone: str, style: str) -> None:
    settings = {"options": f"-c timezone={zone} -c datestyle={style}"}
    elsewhere = create_engine(database.url, poolclass=NullPool, connect_args=settings)
    last_instant = datetime.fromisoformat("2031-06-30T23:59:59.999999Z")

    assert create_month(elsewhere, "audit_events", last_instant) == "audit_events_2031_06"
    assert create_month(elsewhere, "audit_events", JUNE) is None
    [june] = [p for p in database.partitions("audit_events") if p.covers(JUNE)]
    assert (june.lower, june.upper) == (
        datetime.fromisoformat("2031-06-01T00:00Z"),
        datetime.fromisoformat("2031-07-01T00:00Z"),
    )


def test_a_taken_name_does_not_stop_the_insert(database: Database) -> None:
    database.run("CREATE TABLE audit_events_2031_06 (note text)")

    assert create_month(database.app, "audit_events", JUNE) == "audit_events_2031_06_2"
    with database.app.begin() as conn:
        insert_event(conn, "audit_events", JUNE)


def test_a_wider_partition_of_an_operator_counts(database: Database) -> None:
    database.run(
        "CREATE TABLE second_quarter PARTITION OF audit_events FOR VALUES FROM ('2031-04-01+00') TO ('2031-07-01+00')"
    )

    assert create_month(database.app, "audit_events", JUNE) is None


def test_a_half_detached_month_says_so(database: Database) -> None:
    create_month(database.app, "audit_events", JUNE)
    leave_half_detached(database, "audit_events_2031_06")

    with pytest.raises(DBAPIError) as refused:
        create_month(database.app, "audit_events", JUNE)

    assert sqlstate(refused.value) == "55006"
    assert "half detached" in str(refused.value)


def leave_half_detached(database: Database, name: str) -> None:
    with database.owner.connect() as reader:
        reader.exec_driver_sql("SELECT count(*) FROM audit_events")
        with database.owner.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
            conn.exec_driver_sql("SET lock_timeout = '50ms'")
            with pytest.raises(DBAPIError):
                conn.exec_driver_sql(f"ALTER TABLE audit_events DETACH PARTITION {name} CONCURRENTLY")


@pytest.mark.parametrize("table", ["sessions", "audit_events_2031_06", "", "audit_events; DROP TABLE sessions"])
def test_only_the_parents_have_months(database: Database, table: str) -> None:
    with pytest.raises(DBAPIError) as refused:
        create_month(database.app, table, JUNE)

    assert sqlstate(refused.value) == "22023"


def test_instants_out_of_reason_are_refused(database: Database) -> None:
    for at in (datetime.fromisoformat("1999-12-31T23:59:59Z"), database.now() + timedelta(days=3654)):
        with pytest.raises(DataError) as refused:
            create_month(database.app, "audit_events", at)
        assert sqlstate(refused.value) == "22008"


def test_other_refusals_are_not_missing_months(database: Database) -> None:
    now = database.now()
    old = months_back(now, 3)
    create_months(database.app, now)
    create_months(database.app, old)
    refused = []
    for statement in (
        f"INSERT INTO audit_events_{old:%Y_%m} SELECT gen_random_uuid(), now(), NULL, 'a', 'b', 'c', 'd', '{{}}'",
        "INSERT INTO audit_events SELECT NULL, now(), NULL, 'a', 'b', 'c', 'd', '{}'",
        "SELECT 1/0",
    ):
        with pytest.raises(DBAPIError) as error, database.owner.begin() as conn:
            conn.execute(text(statement))
        refused.append(error.value)

    assert [sqlstate(error) for error in refused] == ["23514", "23502", "22012"]
    assert [missing_partition(error) for error in refused] == [None, None, None]
    assert missing_partition(ValueError("no partition of relation")) is None


def test_a_check_of_the_parent_is_not_a_missing_month(database: Database) -> None:
    create_months(database.app, JUNE)
    database.run("ALTER TABLE audit_events ADD CONSTRAINT no_june CHECK (action <> 'test')")

    with pytest.raises(IntegrityError) as refused, database.app.begin() as conn:
        insert_event(conn, "audit_events", JUNE)

    assert sqlstate(refused.value) == "23514"
    assert missing_partition(refused.value) is None


def test_other_logins_may_not_make_months(database: Database, stranger: str) -> None:
    other = create_engine(database.url, poolclass=NullPool)
    with pytest.raises(ProgrammingError) as refused, other.begin() as conn:
        conn.exec_driver_sql(f"SET ROLE {stranger}")
        conn.exec_driver_sql("SELECT fleet_ensure_month('audit_events', now())")

    assert sqlstate(refused.value) == "42501"
