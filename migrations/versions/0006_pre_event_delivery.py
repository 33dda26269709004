"""pre: dead letters of consumer groups (rows D-11, D-12).

Revision ID: 0006_pre_event_delivery
Revises: 0005_pre_assignments

The release before writes its rows without the new columns: they are null for letters of the relay.
"""

from __future__ import annotations

from alembic import op

revision = "0006_pre_event_delivery"
down_revision = "0005_pre_assignments"
branch_labels = None
depends_on = None

UP = (
    """
    ALTER TABLE event_dead_letters
        ADD COLUMN consumer_group TEXT,
        ADD COLUMN entry_id TEXT,
        ADD COLUMN requeued_at TIMESTAMP WITH TIME ZONE
    """,
    """
    CREATE UNIQUE INDEX uq_event_dead_letters_entry ON event_dead_letters (consumer_group, entry_id)
    WHERE consumer_group IS NOT NULL
    """,
)
DOWN = (
    "DROP INDEX uq_event_dead_letters_entry",
    """
    ALTER TABLE event_dead_letters
        DROP COLUMN consumer_group, DROP COLUMN entry_id, DROP COLUMN requeued_at
    """,
)


def upgrade() -> None:
    for statement in UP:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWN:
        op.execute(statement)
