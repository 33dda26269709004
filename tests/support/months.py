"""A migrated database of its own for tests of partitions and audit, and rows to put into it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, Engine, NullPool, create_engine, text

from history.partitions import Partition, list_partitions, months
from history.roles import assume_app_role
from tests.support.servers import Servers

SCHEMA = "public"

INSERT = {
    "audit_events": """
        INSERT INTO audit_events (event_id, "timestamp", event_type, action, resource, metadata)
        VALUES (gen_random_uuid(), :at, 'task_started', 'test', 'session:1', '{}')
    """,
    "session_events": """
        INSERT INTO session_events
            (session_id, seq, created_at, event_id, event_name, event_type, payload, metadata, entity_ids)
        VALUES (gen_random_uuid(), 1, :at, gen_random_uuid(), 'output', 'output', '{}', '{}', '{}')
    """,
}


@dataclass(frozen=True, slots=True)
class Database:
    """``owner`` has the login's own rights, ``app`` is in the application role; neither pools."""

    url: str
    owner: Engine
    app: Engine

    def partitions(self, parent: str) -> list[Partition]:
        with self.owner.connect() as conn:
            return list_partitions(conn, SCHEMA, parent)

    def names(self, parent: str) -> list[str]:
        return [partition.name for partition in self.partitions(parent)]

    def has_table(self, name: str) -> bool:
        with self.owner.connect() as conn:
            return conn.scalar(text("SELECT to_regclass(:name) IS NOT NULL"), {"name": name}) is True

    def run(self, statement: str) -> None:
        """One statement of the owner, committed."""
        with self.owner.begin() as conn:
            conn.exec_driver_sql(statement, execution_options={"no_parameters": True})

    def now(self) -> datetime:
        with self.owner.connect() as conn:
            now: datetime = conn.scalar(text("SELECT now()"))
            return now.astimezone(UTC)


@pytest.fixture
def empty_database(servers: Servers) -> str:
    """The URL of a new database in which nothing has been migrated."""
    return servers.new_database()


@pytest.fixture
def database(servers: Servers) -> Database:
    """A new database at the newest revision, still without any month."""
    url = servers.migrated_database()
    app = create_engine(url, poolclass=NullPool)
    assume_app_role(app)
    return Database(url, create_engine(url, poolclass=NullPool), app)


@pytest.fixture
def stranger(empty_database: str) -> Iterator[str]:
    """A login of the cluster that no migration gave anything; the password is its name."""
    name = f"stranger_{secrets.token_hex(4)}"
    engine = create_engine(empty_database, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as conn:
        conn.exec_driver_sql(f"CREATE ROLE {name} LOGIN PASSWORD '{name}'")
        conn.exec_driver_sql(f"GRANT {name} TO CURRENT_USER")  # else only a superuser may tidy up after it
        yield name
        conn.exec_driver_sql(f"DROP OWNED BY {name}")
        conn.exec_driver_sql(f"DROP ROLE {name}")


def insert_event(conn: Connection, parent: str, at: datetime) -> None:
    """One row of ``parent`` whose instant is ``at``."""
    conn.execute(text(INSERT[parent]), {"at": at})


def months_back(now: datetime, count: int) -> datetime:
    """The first instant of the month ``count`` months before that of ``now``, in UTC."""
    years, month = divmod(now.month - 1 - count, 12)
    [first] = months(now.replace(year=now.year + years, month=month + 1, day=1), 1)
    return first
