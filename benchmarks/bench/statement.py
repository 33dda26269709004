"""The same durable work as one statement: the text that bare Python, pgbench, Celery and the peers run.

Row lock, version check, row, event, audit row and stored answer. What differs is where the sessions to
change come from (``GIVEN``: id, version or NULL for any, key). Rows have the shape and about the size of
those that ``session.update`` writes.
"""

from __future__ import annotations

_WRITE = """
WITH given AS MATERIALIZED ({given}),
changed AS (
    UPDATE sessions s SET context = context || {context}, context_version = context_version + 1,
        state_version = state_version + 1, revision = revision + 1, last_seq = last_seq + 1,
        updated_at = clock_timestamp(), last_activity = clock_timestamp(),
        expires_at = clock_timestamp() + make_interval(secs => timeout_seconds)
    FROM given WHERE s.id = given.id AND s.state_version = coalesce(given.version, s.state_version)
    RETURNING s.*, given.key
),
documents AS MATERIALIZED (
    SELECT id, key, last_seq, state_version, status, (to_jsonb(changed)
        - '{{key,next_check_at,warned_threshold,last_chunk,context_keys,context_pending,context_seen}}'::text[]
        || '{{"changed": true, "updates": ["context"]}}')::text AS document
    FROM changed
),
events AS (
    INSERT INTO session_events (session_id, seq, created_at, event_id, event_name, event_type, actor, task_id,
        payload, metadata, entity_ids, publish)
    SELECT id, last_seq, now(), gen_random_uuid(), 'session.updated', 'session.updated', 'bench', key,
        jsonb_build_object('agent_id', NULL, 'status', status, 'updates', jsonb_build_array('context')),
        jsonb_build_object('version_from', state_version - 1, 'version_to', state_version, 'patch',
            jsonb_build_array({context})), '{{}}', false
    FROM documents
),
audit AS (
    INSERT INTO audit_events (event_id, "timestamp", session_id, event_type, actor, action, resource, metadata)
    SELECT gen_random_uuid(), now(), id, 'session_updated', 'bench', 'session.update', 'session:' || id,
        jsonb_build_object('task_id', key, 'seq', last_seq, 'version_from', state_version - 1,
            'version_to', state_version, 'updates', jsonb_build_array('context'))
    FROM documents
),
answers AS (
    INSERT INTO idempotency_keys (key, operation, task_id, body_hash, answer, created_at, expires_at)
    SELECT key, 'session.update', key, encode(sha256(key::bytea), 'hex'), document::json, now(),
        now() + interval '1 day'
    FROM documents
)
SELECT id::text, document FROM documents
"""


def write(given: str, context: str) -> str:
    """The statement for the sessions of ``given``, which get ``context`` merged into theirs; answers id and
    document of those whose version was right."""
    return _WRITE.format(given=given, context=context)


ONE = write("SELECT $1::uuid AS id, $2::bigint AS version, $3::text AS key", "$4::jsonb")
"""One session; version NULL for any. The row lock is that of the UPDATE."""

MANY = write("SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS one(id, version, key)", "$4::jsonb")
"""Many sessions that LOCK has locked, with the versions it has read."""

LOCK = "SELECT id::text, state_version FROM sessions WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE"
"""In id order, which keeps two transactions over the same sessions from waiting for each other."""
