"""Brings the database to this release: ``python -m workers.migrate``, the Procfile's ``release`` line.

Any number may run at once and beside running workers: they queue on an advisory lock of the schema, and
the one that comes second finds nothing to do. After the revisions the current and coming months exist.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine, NullPool, create_engine, text

from history import partitions
from workers.preflight import check_servers
from workers.settings import Settings, SettingsError

ROOT = Path(__file__).resolve().parent.parent
LOCK = text("SELECT pg_try_advisory_lock(hashtextextended('sessionfleet migrate ' || :schema, 0))")


def migration_engine(settings: Settings) -> Engine:
    """Connections of the owner in the fleet's schema, without statement timeouts; close what you open."""
    return create_engine(
        settings.database_url,
        poolclass=NullPool,
        connect_args={
            "options": f"-c search_path={settings.database_schema} -c timezone=UTC",
            "connect_timeout": 3,
            "application_name": "fleet-migrate",
        },
    )


def migrate(settings: Settings, to: str = "head") -> tuple[str | None, str | None]:
    """Upgrades, or downgrades when ``to`` (a revision or ``base``) lies behind; revisions before and after.

    Each revision is one transaction. Raises :class:`SettingsError` when PostgreSQL does not
    answer, or when it or ``to`` is at a revision this release does not know; and what the database says when a
    revision fails; the earlier revisions then stand.
    """
    # A migration cannot wait for its server as a worker with lazy_connect does.
    check_servers(settings.model_copy(update={"lazy_connect": False}), "database_url")
    engine = migration_engine(settings)
    with engine.connect() as guard:
        # Asked for again and again: CREATE INDEX CONCURRENTLY of the one that has it waits for every open statement.
        while not guard.scalar(LOCK, {"schema": settings.database_schema}):
            guard.commit()
            time.sleep(0.2)
        guard.commit()  # the lock is the session's: an open transaction would only hold vacuum back
        with engine.connect() as connection:
            _make_schema(connection, settings.database_schema)
            before = _revision(connection)
            try:
                _run(connection, to, before)
            except (CommandError, RevisionError) as error:
                raise SettingsError(
                    message=f"the database is at {before or 'base'} and cannot be brought to {to} ({error}): "
                    "where a newer release migrated it use that one, else name a revision that is in migrations/.",
                    setting="FLEET_DATABASE_URL",
                ) from None
            after = _revision(connection)
        if to == "head":
            partitions.ensure(engine, settings.database_schema, ahead=settings.partitions_ahead)
    return before, after


def _make_schema(connection: Connection, schema: str) -> None:
    found = connection.execute(text("SELECT to_regnamespace(quote_ident(:name))"), {"name": schema})
    if found.scalar_one() is None:
        quoted = connection.dialect.identifier_preparer.quote_identifier(schema)
        connection.exec_driver_sql(f"CREATE SCHEMA {quoted}")
    connection.commit()


def _run(connection: Connection, to: str, before: str | None) -> None:
    config = Config(ROOT / "alembic.ini")
    config.attributes["connection"] = connection
    if _behind(config, to, before):
        command.downgrade(config, to)
    else:
        command.upgrade(config, to)


def _behind(config: Config, to: str, current: str | None) -> bool:
    if to in ("head", "heads") or current is None:
        return False
    if to == "base":
        return True
    script = ScriptDirectory.from_config(config)
    return any(step.revision == to for step in script.iterate_revisions(current, "base")) and to != current


def _revision(connection: Connection) -> str | None:
    revision = MigrationContext.configure(connection).get_current_revision()
    connection.rollback()  # reading it opened a transaction
    return revision


def main(arguments: list[str] | None = None) -> int:
    """The command; 0, or 2 with one sentence when settings or the server do not allow it."""
    parser = argparse.ArgumentParser(prog="python -m workers.migrate", description=__doc__.split("\n")[0])
    parser.add_argument("--to", default="head", help="revision to go to, forward or back; `base` is empty")
    to = parser.parse_args(arguments).to
    try:
        before, after = migrate(Settings.load(), to)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    print(f"database at {after or 'base'}" + ("" if before == after else f" (was {before or 'empty'})"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
