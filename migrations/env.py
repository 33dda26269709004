"""Where Alembic's revisions run: on the connection they are handed, else on FLEET_DATABASE_URL.

The search_path of the connection decides the schema; the version table stands beside the tables.
`alembic check` compares the migrated database with the models, which no revision may import.
"""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql.base import ischema_names

from models import Base
from models.session_event import Xid8

ischema_names["xid8"] = Xid8  # SQLAlchemy does not know the type when it reads a table


def compared(item: Any, _name: str | None, kind: str, reflected: bool, _model: Any) -> bool:
    """All but the months: they are made while the fleet runs and carry a comment that says so."""
    return not (kind == "table" and reflected and (item.comment or "").startswith("fleet month of "))


def run(connection: Connection) -> None:
    """Each revision in a transaction of its own: a failed one leaves the earlier ones in place."""
    context.configure(
        connection=connection,
        transaction_per_migration=True,
        target_metadata=Base.metadata,
        include_object=compared,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    raise SystemExit("SQL text is not offered (--sql): revisions look at the database they change.")

given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    from workers.migrate import migration_engine
    from workers.settings import Settings

    with migration_engine(Settings.load()).connect() as own:
        run(own)
