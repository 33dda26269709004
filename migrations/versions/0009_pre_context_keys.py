"""pre: the index of contexts is on keys that a duty brings up to date, so that a new context is a HOT update (Q-06).

Revision ID: 0009_pre_context_keys
Revises: 0008_pre_answer_text

``sessions.context_keys`` has a number for every value in the context and the path to it, what a GIN index of
``jsonb_path_ops`` keeps. ``context_pending`` says that the context has changed since; a trigger sets it, so that
workers of the release before do so as well. ``maintenance.index_contexts`` reads the contexts of pending rows, the
first time those of all: until it has, lists filtered by context read every session.

Indexes are made and dropped without holding writers up, which waits for the transactions that are open, at most a
minute. A cut or failed run is simply run again.
"""

from __future__ import annotations

from alembic import op

revision = "0009_pre_context_keys"
down_revision = "0008_pre_answer_text"
branch_labels = None
depends_on = None

# Contained in a context is only what has no key that the context lacks. The other way round two paths may share a key,
# so whoever asks compares the contexts as well. Equal numbers have one text each: 1.0 is 1.
# A path is a number, the hash of its last name with that of the rest as seed: as text it would be made anew for each
# value behind it, and a long one before many values would take longer than a statement may.
KEYS_FUNCTION = r"""
    CREATE OR REPLACE FUNCTION containment_keys(document JSONB) RETURNS BIGINT[]
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
        WITH RECURSIVE walk(path, value) AS (
            SELECT 0::bigint, document
            UNION ALL
            SELECT hashtextextended(inside.key, walk.path), inside.value
            FROM walk CROSS JOIN LATERAL (
                SELECT key, value
                FROM jsonb_each(CASE jsonb_typeof(walk.value) WHEN 'object' THEN walk.value ELSE '{}' END)
                UNION ALL
                SELECT '', value
                FROM jsonb_array_elements(CASE jsonb_typeof(walk.value) WHEN 'array' THEN walk.value ELSE '[]' END)
            ) AS inside
        )
        SELECT coalesce(array_agg(DISTINCT hashtextextended(
            CASE jsonb_typeof(value) WHEN 'number' THEN trim_scale(value::numeric)::text ELSE value::text END, path
        )), '{}')
        FROM walk WHERE jsonb_typeof(value) NOT IN ('object', 'array')
    $$
"""

PENDING_FUNCTION = """
    CREATE OR REPLACE FUNCTION sessions_context() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.context_pending := true;
        RETURN NEW;
    END $$
"""

# Called for the first change after the duty has been there; later ones pay for one comparison.
PENDING_TRIGGER = """
    CREATE OR REPLACE TRIGGER sessions_context BEFORE UPDATE OF context ON sessions
    FOR EACH ROW WHEN (NOT NEW.context_pending) EXECUTE FUNCTION sessions_context()
"""

INDEXES = {
    "ix_sessions_context_keys": "USING gin (context_keys)",
    "ix_sessions_context_pending": "(id) WHERE context_pending",
}
OLD = {"ix_sessions_context": "USING gin (context jsonb_path_ops)"}


def upgrade() -> None:
    op.execute(KEYS_FUNCTION)
    op.execute(PENDING_FUNCTION)
    op.execute("ALTER TABLE sessions ADD COLUMN IF NOT EXISTS context_keys BIGINT[] NOT NULL DEFAULT '{}'")
    op.execute("ALTER TABLE sessions ADD COLUMN IF NOT EXISTS context_pending BOOLEAN NOT NULL DEFAULT true")
    op.execute(PENDING_TRIGGER)
    replace(OLD, INDEXES)


def downgrade() -> None:
    replace(INDEXES, OLD)
    op.execute("DROP TRIGGER sessions_context ON sessions")
    op.execute("ALTER TABLE sessions DROP COLUMN context_keys, DROP COLUMN context_pending")
    op.execute("DROP FUNCTION sessions_context()")
    op.execute("DROP FUNCTION containment_keys(JSONB)")


def replace(old: dict[str, str], new: dict[str, str]) -> None:
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout = '60s'")
        for name, definition in new.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON sessions {definition}")
        for name in old:
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        op.execute("RESET lock_timeout")
