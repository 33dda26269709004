"""pre: messages nobody could take, and how often one was tried (rows D-18, P-11).

Revision ID: 0004_pre_dead_letters
Revises: 0003_pre_reviews

The application role gets its rights on these tables by the default privileges of the partitions' revision.
"""

from __future__ import annotations

from alembic import op

revision = "0004_pre_dead_letters"
down_revision = "0003_pre_reviews"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE message_dead_letters (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        digest TEXT NOT NULL,
        queue TEXT NOT NULL,
        task_name TEXT,
        task_id TEXT,
        reason TEXT NOT NULL,
        size BIGINT NOT NULL,
        raw BYTEA NOT NULL,
        deliveries INTEGER NOT NULL,
        seen INTEGER NOT NULL,
        first_seen_at TIMESTAMP WITH TIME ZONE NOT NULL,
        last_seen_at TIMESTAMP WITH TIME ZONE NOT NULL,
        requeued_at TIMESTAMP WITH TIME ZONE,
        CONSTRAINT pk_message_dead_letters PRIMARY KEY (id),
        CONSTRAINT uq_message_dead_letters_digest UNIQUE (digest)
    )
    """,
    "CREATE INDEX ix_message_dead_letters_last_seen_at ON message_dead_letters (last_seen_at)",
    """
    CREATE TABLE message_deliveries (
        task_id TEXT NOT NULL,
        deliveries INTEGER NOT NULL,
        first_at TIMESTAMP WITH TIME ZONE NOT NULL,
        last_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_message_deliveries PRIMARY KEY (task_id)
    )
    """,
    "CREATE INDEX ix_message_deliveries_last_at ON message_deliveries (last_at)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for table in ("message_deliveries", "message_dead_letters"):
        op.execute(f"DROP TABLE {table}")
