"""pre: stored answers are kept as the JSON text they were sent as, no longer taken apart (row B-13).

Revision ID: 0008_pre_answer_text
Revises: 0007_pre_sparse_indexes

Nobody looks into a stored answer: it is read whole, by its key. To make JSONB of it was an eighth of what PostgreSQL
does for an operation. Workers of the release before can read and write the column either way.

The table is written anew, as far as its answers have not been purged (a day of them by default), and writers wait
meanwhile, the longer the more answers there are.
"""

from __future__ import annotations

from alembic import op

revision = "0008_pre_answer_text"
down_revision = "0007_pre_sparse_indexes"
branch_labels = None
depends_on = None


def upgrade() -> None:
    keep_answers_as("json")


def downgrade() -> None:
    keep_answers_as("jsonb")


def keep_answers_as(kind: str) -> None:
    op.execute("SET LOCAL statement_timeout = 0")
    op.execute(f"ALTER TABLE idempotency_keys ALTER COLUMN answer TYPE {kind} USING answer::{kind}")
