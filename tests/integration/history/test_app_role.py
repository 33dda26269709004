"""Workers give up the owner's rights, where the cluster lets them (I-04)."""

from __future__ import annotations

import pytest
from sqlalchemy import NullPool, create_engine
from sqlalchemy.exc import ProgrammingError

from history.ddl import sqlstate
from history.roles import APP_ROLE, app_role_available, assume_app_role
from tests.support.months import Database


def current_user(database: Database) -> str:
    with database.app.connect() as conn:
        return str(conn.exec_driver_sql("SELECT current_user").scalar_one())


def test_a_connection_is_in_the_role_and_stays_in_it(database: Database) -> None:
    with database.app.connect() as conn:
        assert app_role_available(conn)
        conn.rollback()
        assert conn.exec_driver_sql("SELECT current_user").scalar_one() == APP_ROLE


def test_before_the_migration_there_is_no_role_to_take(empty_database: str) -> None:
    engine = create_engine(empty_database, poolclass=NullPool)
    assume_app_role(engine)

    with engine.connect() as conn:
        assert not app_role_available(conn)
        assert conn.exec_driver_sql("SELECT current_user = session_user").scalar_one()


def test_the_role_without_rights_here_is_not_taken(database: Database) -> None:
    database.run(f"REVOKE ALL ON audit_events FROM {APP_ROLE}")

    assert current_user(database) != APP_ROLE


def test_ordinary_tables_can_be_written_and_not_changed_in_shape(database: Database) -> None:
    with database.app.begin() as conn:
        conn.exec_driver_sql("INSERT INTO leader_leases VALUES ('beat', 'a', 1, now())")
        conn.exec_driver_sql("UPDATE leader_leases SET epoch = 2")
        conn.exec_driver_sql("DELETE FROM leader_leases")
        conn.exec_driver_sql("SELECT nextval('session_events_id_seq')")
    for statement in (
        "DROP TABLE leader_leases",
        "ALTER TABLE leader_leases ADD COLUMN x int",
        "TRUNCATE leader_leases",
        "CREATE TABLE mine (x int)",
        "UPDATE alembic_version SET version_num = 'x'",
        "ALTER TABLE audit_events DISABLE TRIGGER ALL",
        "DROP TRIGGER append_only_row ON audit_events",
    ):
        with pytest.raises(ProgrammingError) as refused, database.app.begin() as conn:
            conn.exec_driver_sql(statement)
        assert sqlstate(refused.value) == "42501", statement


def test_tables_of_later_migrations_are_covered(database: Database) -> None:
    database.run("CREATE TABLE later (id bigint GENERATED ALWAYS AS IDENTITY, note text)")
    database.run("CREATE SEQUENCE later_numbers")

    with database.app.begin() as conn:
        conn.exec_driver_sql("INSERT INTO later (note) VALUES ('x')")
        conn.exec_driver_sql("UPDATE later SET note = 'y'")
        conn.exec_driver_sql("DELETE FROM later")
        conn.exec_driver_sql("SELECT nextval('later_numbers')")


def test_rights_can_be_given_again(database: Database) -> None:
    database.run(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {APP_ROLE}")
    assert current_user(database) != APP_ROLE

    database.run("SELECT fleet_grant_app()")

    assert current_user(database) == APP_ROLE
    with pytest.raises(ProgrammingError), database.app.begin() as conn:
        conn.exec_driver_sql("UPDATE audit_events SET actor = 'x'")
