"""pre: accounts of owners, handlers of schedules, runs that are to stop (rows H-09, H-14, H-15).

Revision ID: 0005_pre_assignments
Revises: 0004_pre_dead_letters

New columns have defaults, so that the release before can write its rows beside this one. The application role
gets its rights on the table by the default privileges of the partitions' revision.
"""

from __future__ import annotations

from alembic import op

revision = "0005_pre_assignments"
down_revision = "0004_pre_dead_letters"
branch_labels = None
depends_on = None

UP = (
    """
    CREATE TABLE owner_accounts (
        owner_id TEXT NOT NULL,
        account_id TEXT NOT NULL,
        risk_score DOUBLE PRECISION,
        position BIGINT GENERATED ALWAYS AS IDENTITY,
        assigned_at TIMESTAMP WITH TIME ZONE NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
        CONSTRAINT pk_owner_accounts PRIMARY KEY (owner_id, account_id),
        CONSTRAINT ck_owner_accounts_risk_score CHECK (risk_score BETWEEN 0 AND 100)
    )
    """,
    """
    ALTER TABLE scheduled_reviews
        ADD COLUMN handler TEXT NOT NULL DEFAULT 'review.owner_digest',
        ADD COLUMN handler_queue TEXT,
        ADD COLUMN handler_timeout_seconds INTEGER NOT NULL DEFAULT 300,
        ADD COLUMN dropped BIGINT NOT NULL DEFAULT 0
    """,
    """
    ALTER TABLE schedule_executions
        ADD COLUMN stop TEXT,
        ADD CONSTRAINT ck_schedule_executions_stop CHECK (stop IN ('cancel', 'terminate'))
    """,
    "CREATE INDEX ix_schedule_executions_queued_at ON schedule_executions USING brin (queued_at)",
    (
        "CREATE INDEX ix_schedule_executions_stop ON schedule_executions (execution_id)"
        " WHERE status = 'running' AND stop = 'terminate'"
    ),
)
DOWN = (
    "DROP INDEX ix_schedule_executions_stop",
    "DROP INDEX ix_schedule_executions_queued_at",
    "ALTER TABLE schedule_executions DROP COLUMN stop",
    """
    ALTER TABLE scheduled_reviews
        DROP COLUMN handler, DROP COLUMN handler_queue, DROP COLUMN handler_timeout_seconds, DROP COLUMN dropped
    """,
    "DROP TABLE owner_accounts",
)


def upgrade() -> None:
    for statement in UP:
        op.execute(statement)


def downgrade() -> None:
    for statement in DOWN:
        op.execute(statement)
