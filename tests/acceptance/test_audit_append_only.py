"""The audit can be added to and read, never changed (I-04)."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from history.ddl import sqlstate
from history.detach import AUDIT
from history.month import create_month
from history.partition_upkeep import maintain
from tests.support.months import SCHEMA, Database, insert_event, months_back

CHANGES = ("UPDATE {table} SET actor = 'somebody else'", "DELETE FROM {table}", "TRUNCATE {table}")


@pytest.fixture
def month(database: Database) -> str:
    """The audit's current month, with one row in it."""
    now = database.now()
    create_month(database.app, AUDIT, now)
    with database.app.begin() as conn:
        insert_event(conn, AUDIT, now)
    return f"{AUDIT}_{now:%Y_%m}"


def refusal(engine: Engine, statement: str) -> str:
    with pytest.raises(ProgrammingError) as refused, engine.begin() as conn:
        conn.execute(text(statement))
    assert sqlstate(refused.value) == "42501"
    return str(refused.value.orig)


def rows(database: Database, table: str) -> int:
    with database.app.connect() as conn:
        return int(conn.scalar(text(f"SELECT count(*) FROM {table} WHERE actor IS NULL")) or 0)


@pytest.mark.parametrize("change", CHANGES)
def test_the_application_role_may_not_change_it(database: Database, month: str, change: str) -> None:
    """AT-I4: refused on the table and directly on its partition, by missing rights."""
    for table in (AUDIT, month):
        assert "permission denied" in refusal(database.app, change.format(table=table))
    assert rows(database, AUDIT) == 1


@pytest.mark.parametrize("change", CHANGES)
def test_the_owner_is_stopped_by_the_trigger(database: Database, month: str, change: str) -> None:
    """AT-I4: who has the rights meets the trigger, on the table and directly on its partition."""
    for table in (AUDIT, month):
        assert "append-only" in refusal(database.owner, change.format(table=table))
    assert rows(database, AUDIT) == 1


def test_other_ways_to_change_a_row_are_stopped_too(database: Database, month: str) -> None:
    """AT-I4: an upsert, a merge, a truncation that cascades, triggers switched off for a session."""
    for statement in (
        f"INSERT INTO {AUDIT} SELECT * FROM {AUDIT} ON CONFLICT (event_id, timestamp) DO UPDATE SET actor = 'x'",
        f"MERGE INTO {AUDIT} a USING {AUDIT} b ON a.event_id = b.event_id WHEN MATCHED THEN DELETE",
        f"TRUNCATE leader_leases, {AUDIT} CASCADE",
        f"SET LOCAL session_replication_role = replica; DELETE FROM {month}",
    ):
        refusal(database.owner, statement)
    assert rows(database, AUDIT) == 1


def test_a_partition_attached_by_hand_is_guarded(database: Database, month: str) -> None:
    """AT-I4: rows of a partition that an operator attached are as safe as ours."""
    old = months_back(database.now(), 30)
    upper = months_back(database.now(), 29)
    database.run(f"CREATE TABLE by_hand (LIKE {AUDIT} INCLUDING ALL)")
    database.run(f"ALTER TABLE {AUDIT} ATTACH PARTITION by_hand FOR VALUES FROM ('{old}') TO ('{upper}')")
    with database.app.begin() as conn:
        insert_event(conn, AUDIT, old)

    for change in CHANGES[:2]:
        refusal(database.owner, change.format(table="by_hand"))
    refusal(database.owner, CHANGES[2].format(table=AUDIT))


def test_a_detached_month_stays_as_it_was(database: Database) -> None:
    """AT-I4: rows that left with their month can still not be changed, by hand attached or not."""
    now = database.now()
    old, upper = months_back(now, 30), months_back(now, 29)
    older = months_back(now, 31)
    create_month(database.app, AUDIT, older)
    database.run(f"CREATE TABLE by_hand (LIKE {AUDIT} INCLUDING ALL)")
    database.run(f"ALTER TABLE {AUDIT} ATTACH PARTITION by_hand FOR VALUES FROM ('{old}') TO ('{upper}')")
    with database.app.begin() as conn:
        insert_event(conn, AUDIT, old)
        insert_event(conn, AUDIT, older)

    gone = maintain(database.owner, SCHEMA, ahead=1, retention_months=6)["detached"]

    assert gone == [f"{AUDIT}_{older:%Y_%m}", "by_hand"]
    for table in gone:
        for change in CHANGES:
            assert "permission denied" in refusal(database.app, change.format(table=table))
            assert "append-only" in refusal(database.owner, change.format(table=table))
        assert rows(database, table) == 1
