"""pre: how many sessions have each status is kept up with every change, not counted (row Q-03).

Revision ID: 0010_pre_session_counts
Revises: 0009_pre_context_keys

A trigger writes the changes, so workers of the release before do so as well. Writers of ``sessions`` wait while it is
made, not while the sessions are counted that are there already: that is one statement of one snapshot, and what
is written meanwhile counts for itself. A cut or failed run is simply run again.
"""

from __future__ import annotations

from alembic import op

revision = "0010_pre_session_counts"
down_revision = "0009_pre_context_keys"
branch_labels = None
depends_on = None

TABLE = """
    CREATE TABLE IF NOT EXISTS session_counts (
        id BIGINT GENERATED ALWAYS AS IDENTITY,
        status TEXT NOT NULL,
        archived BOOLEAN NOT NULL,
        change BIGINT NOT NULL,
        CONSTRAINT pk_session_counts PRIMARY KEY (id)
    )
"""

FUNCTION = """
    CREATE OR REPLACE FUNCTION sessions_counted() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'TRUNCATE' THEN
            DELETE FROM session_counts;
            RETURN NULL;
        END IF;
        IF TG_OP <> 'INSERT' AND OLD.deleted_at IS NULL THEN
            INSERT INTO session_counts (status, archived, change) VALUES (OLD.status, OLD.archived_at IS NOT NULL, -1);
        END IF;
        IF TG_OP <> 'DELETE' AND NEW.deleted_at IS NULL THEN
            INSERT INTO session_counts (status, archived, change) VALUES (NEW.status, NEW.archived_at IS NOT NULL, 1);
        END IF;
        RETURN NULL;
    END $$
"""

# By event. Most updates name none of these columns and pay nothing.
TRIGGERS = {
    "sessions_counted_insert": "AFTER INSERT ON sessions FOR EACH ROW",
    "sessions_counted_update": """AFTER UPDATE OF status, archived_at, deleted_at ON sessions FOR EACH ROW WHEN (
        (OLD.status, OLD.archived_at IS NULL, OLD.deleted_at IS NULL)
        IS DISTINCT FROM (NEW.status, NEW.archived_at IS NULL, NEW.deleted_at IS NULL)
    )""",
    "sessions_counted_delete": "AFTER DELETE ON sessions FOR EACH ROW WHEN (OLD.deleted_at IS NULL)",
    "sessions_counted_truncate": "AFTER TRUNCATE ON sessions FOR EACH STATEMENT",
}

COUNT = """
    INSERT INTO session_counts (status, archived, change)
    SELECT status, archived, sum(change) FROM (
        SELECT status, archived_at IS NOT NULL AS archived, 1 AS change FROM sessions WHERE deleted_at IS NULL
        UNION ALL SELECT status, archived, -change FROM session_counts
    ) AS missing
    GROUP BY status, archived HAVING sum(change) <> 0
"""


def upgrade() -> None:
    op.execute(TABLE)
    op.execute(FUNCTION)
    for name, event in TRIGGERS.items():
        op.execute(f"CREATE OR REPLACE TRIGGER {name} {event} EXECUTE FUNCTION sessions_counted()")
    with op.get_context().autocommit_block():
        op.execute("SET statement_timeout = 0")
        op.execute(COUNT)
        op.execute("RESET statement_timeout")


def downgrade() -> None:
    for name in TRIGGERS:
        op.execute(f"DROP TRIGGER {name} ON sessions")
    op.execute("DROP FUNCTION sessions_counted()")
    op.execute("DROP TABLE session_counts")
