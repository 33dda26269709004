"""Indexes of ``sessions`` made anew without holding writers up."""

from __future__ import annotations

from collections.abc import Mapping

from alembic import op


def replace(indexes: Mapping[str, str]) -> None:
    """Give indexes another definition (name -> what follows the table's name).

    Each is made beside the old one and then takes its name. Fails when a transaction stays open for a minute
    meanwhile; a cut or failed run is simply run again. Commits what the revision did before.
    """
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = '60s'")
        for name, definition in indexes.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}_new")
            op.execute(f"CREATE INDEX CONCURRENTLY {name}_new ON sessions {definition}")
            op.execute(f"DROP INDEX {name}; ALTER INDEX {name}_new RENAME TO {name}")
        op.execute("RESET lock_timeout")
