"""pre: less to write for a session: contexts that keep changing are not indexed, nor is what it does not have (Q-06).

Revision ID: 0011_pre_lean_sessions
Revises: 0010_pre_session_counts

``sessions.context_seen`` is the ``context_version`` at the last look of ``maintenance.index_contexts``, which indexes
a context that has not changed since. The indexes of tags and accounts leave out the sessions that have none; each
is made beside the old one without holding writers up, and then takes its name. Until workers of the release before are
gone, their lists by tag or account read all sessions. A cut or failed run is simply run again.
"""

from __future__ import annotations

from alembic import op

from migrations.indexes import replace

revision = "0011_pre_lean_sessions"
down_revision = "0010_pre_session_counts"
branch_labels = None
depends_on = None

INDEXES = {"ix_sessions_tags": "USING gin (tags)", "ix_sessions_account_ids": "USING gin (account_ids)"}
SPARSE = {
    "ix_sessions_tags": "USING gin (tags) WHERE tags <> '{}'",
    "ix_sessions_account_ids": "USING gin (account_ids) WHERE account_ids <> '{}'",
}


def upgrade() -> None:
    op.execute("ALTER TABLE sessions ADD COLUMN IF NOT EXISTS context_seen BIGINT")
    replace(SPARSE)


def downgrade() -> None:
    replace(INDEXES)
    op.execute("ALTER TABLE sessions DROP COLUMN context_seen")
