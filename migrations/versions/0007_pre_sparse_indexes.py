"""pre: indexes by agent, user, owner and orchestrator leave out the sessions that have none (row Q-06).

Revision ID: 0007_pre_sparse_indexes
Revises: 0006_pre_event_delivery

A write that changes the context writes an entry to every index of the row. Each index is made beside the old one
without holding writers up, and then takes its name. It fails when a transaction stays open for a minute meanwhile,
among them a migration of the release before that waits for this one. A cut or failed run is simply run again.
"""

from __future__ import annotations

from migrations.indexes import replace

revision = "0007_pre_sparse_indexes"
down_revision = "0006_pre_event_delivery"
branch_labels = None
depends_on = None

INDEXES = {
    "ix_sessions_agent_id_created_at": "(agent_id, created_at DESC, id DESC)",
    "ix_sessions_user_id_created_at": "(user_id, created_at DESC, id DESC)",
    "ix_sessions_owner_id_created_at": "(owner_id, created_at DESC, id DESC)",
    "ix_sessions_orchestrator_id": "(orchestrator_id)",
}
SPARSE = {name: f"{columns} WHERE {columns[1:-1].split(',')[0]} IS NOT NULL" for name, columns in INDEXES.items()}


def upgrade() -> None:
    replace(SPARSE)


def downgrade() -> None:
    replace(INDEXES)
