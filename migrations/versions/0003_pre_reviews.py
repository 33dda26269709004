"""pre: user schedules and the tick ledger (rows H-01, H-06, H-10, H-13).

Revision ID: 0003_pre_reviews
Revises: 0002_pre_partitions

The application role gets its rights on these tables by the default privileges of the revision before.
"""

from __future__ import annotations

from alembic import op

revision = "0003_pre_reviews"
down_revision = "0002_pre_partitions"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE scheduled_reviews (
        schedule_id TEXT NOT NULL,
        schedule_type TEXT NOT NULL,
        owner_id TEXT NOT NULL,
        account_filter JSONB,
        cron_expression TEXT,
        interval_minutes DOUBLE PRECISION,
        interval_seconds INTEGER,
        day_mode TEXT,
        scheduled_time TEXT,
        hour SMALLINT NOT NULL,
        minute SMALLINT NOT NULL,
        weekday SMALLINT,
        day SMALLINT,
        last_business_day BOOLEAN NOT NULL,
        month_end TEXT NOT NULL,
        anchor_date DATE,
        timezone TEXT NOT NULL,
        dst_gap TEXT NOT NULL,
        dst_overlap TEXT NOT NULL,
        jitter_seconds INTEGER NOT NULL,
        windows JSONB NOT NULL,
        window_policy TEXT NOT NULL,
        blackouts JSONB NOT NULL,
        end_at TIMESTAMP WITH TIME ZONE,
        tzdata_version TEXT NOT NULL,
        priority TEXT NOT NULL,
        enabled BOOLEAN NOT NULL,
        max_retries SMALLINT NOT NULL,
        retry_delay_minutes INTEGER NOT NULL,
        coalesce TEXT NOT NULL,
        overlap TEXT NOT NULL,
        max_instances SMALLINT NOT NULL,
        max_runs INTEGER,
        pause_after_failures SMALLINT NOT NULL,
        failures_in_row INTEGER NOT NULL,
        metadata JSONB NOT NULL,
        pause_note TEXT,
        last_run TIMESTAMP WITH TIME ZONE,
        last_status TEXT,
        next_run TIMESTAMP WITH TIME ZONE,
        run_count BIGINT NOT NULL,
        version BIGINT NOT NULL,
        created_at TIMESTAMP WITH TIME ZONE NOT NULL,
        updated_at TIMESTAMP WITH TIME ZONE NOT NULL,
        deleted_at TIMESTAMP WITH TIME ZONE,
        CONSTRAINT pk_scheduled_reviews PRIMARY KEY (schedule_id),
        CONSTRAINT ck_scheduled_reviews_schedule_type
            CHECK (schedule_type IN ('daily', 'weekly', 'biweekly', 'monthly', 'cron', 'interval', 'one_time')),
        CONSTRAINT ck_scheduled_reviews_priority CHECK (priority IN ('critical', 'high', 'medium', 'low')),
        CONSTRAINT ck_scheduled_reviews_deleted_at CHECK (deleted_at IS NULL OR next_run IS NULL)
    )
    """,
    "CREATE INDEX ix_scheduled_reviews_created_at ON scheduled_reviews (created_at DESC, schedule_id DESC)",
    "CREATE INDEX ix_scheduled_reviews_next_run ON scheduled_reviews (next_run) WHERE next_run IS NOT NULL",
    "CREATE INDEX ix_scheduled_reviews_owner_id_created_at ON scheduled_reviews (owner_id, created_at DESC)",
    "CREATE INDEX ix_scheduled_reviews_tzdata_version ON scheduled_reviews (tzdata_version)",
    """
    CREATE TABLE schedule_executions (
        execution_id TEXT NOT NULL,
        schedule_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        nominal_utc TIMESTAMP WITH TIME ZONE NOT NULL,
        status TEXT NOT NULL,
        reason TEXT,
        priority TEXT NOT NULL,
        attempt SMALLINT NOT NULL,
        queued_at TIMESTAMP WITH TIME ZONE NOT NULL,
        not_before TIMESTAMP WITH TIME ZONE,
        publish_at TIMESTAMP WITH TIME ZONE,
        publishes SMALLINT NOT NULL,
        lease_expires_at TIMESTAMP WITH TIME ZONE,
        started_at TIMESTAMP WITH TIME ZONE,
        ended_at TIMESTAMP WITH TIME ZONE,
        session_id UUID,
        error_message TEXT,
        accounts_processed INTEGER,
        duration_seconds DOUBLE PRECISION,
        result JSONB,
        CONSTRAINT pk_schedule_executions PRIMARY KEY (execution_id),
        CONSTRAINT ck_schedule_executions_kind CHECK (kind IN ('scheduled', 'on_demand', 'backfill')),
        CONSTRAINT ck_schedule_executions_status
            CHECK (status IN ('queued', 'running', 'success', 'failed', 'skipped')),
        CONSTRAINT ck_schedule_executions_reason CHECK ((status = 'skipped') = (reason IS NOT NULL)),
        CONSTRAINT ck_schedule_executions_publish_at CHECK ((status = 'queued') = (publish_at IS NOT NULL)),
        CONSTRAINT ck_schedule_executions_lease_expires_at
            CHECK ((status = 'running') = (lease_expires_at IS NOT NULL)),
        CONSTRAINT fk_schedule_executions_schedule_id
            FOREIGN KEY (schedule_id) REFERENCES scheduled_reviews (schedule_id)
    )
    """,
    (
        "CREATE INDEX ix_schedule_executions_active ON schedule_executions (schedule_id)"
        " WHERE status IN ('queued', 'running')"
    ),
    (
        "CREATE INDEX ix_schedule_executions_lease_expires_at ON schedule_executions (lease_expires_at)"
        " WHERE lease_expires_at IS NOT NULL"
    ),
    "CREATE INDEX ix_schedule_executions_publish_at ON schedule_executions (publish_at) WHERE publish_at IS NOT NULL",
    "CREATE UNIQUE INDEX uq_schedule_executions_slot ON schedule_executions (schedule_id, nominal_utc, kind)",
    """
    CREATE TABLE schedule_attempts (
        execution_id TEXT NOT NULL,
        attempt SMALLINT NOT NULL,
        status TEXT NOT NULL,
        started_at TIMESTAMP WITH TIME ZONE NOT NULL,
        ended_at TIMESTAMP WITH TIME ZONE,
        session_id UUID,
        error_message TEXT,
        CONSTRAINT pk_schedule_attempts PRIMARY KEY (execution_id, attempt),
        CONSTRAINT ck_schedule_attempts_status CHECK (status IN ('running', 'success', 'failed')),
        CONSTRAINT fk_schedule_attempts_execution_id
            FOREIGN KEY (execution_id) REFERENCES schedule_executions (execution_id)
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for table in ("schedule_attempts", "schedule_executions", "scheduled_reviews"):
        op.execute(f"DROP TABLE {table}")
