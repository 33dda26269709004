"""The limit: the same durable work in a bare Python process, psycopg2 and two prepared statements.

Lock, version check, row, event, audit row and stored answer of each operation, one transaction for
all that are given. No message, no validation, no verb, no cache, no relay.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from uuid import uuid4

import psycopg2
from psycopg2.extensions import connection
from sqlalchemy import make_url

LOCK = """
PREPARE bench_lock (uuid[]) AS
SELECT id, state_version, last_seq, context FROM sessions WHERE id = ANY ($1) ORDER BY id FOR NO KEY UPDATE
"""

WRITE = """
PREPARE bench_write (uuid[], bigint[], text[], jsonb) AS
WITH given AS (SELECT * FROM unnest($1, $2, $3) AS one(id, version, key)),
changed AS (
    UPDATE sessions s SET context = context || $4, context_version = context_version + 1,
        state_version = state_version + 1, revision = revision + 1, last_seq = last_seq + 1,
        updated_at = clock_timestamp(), last_activity = clock_timestamp()
    FROM given WHERE s.id = given.id AND s.state_version = given.version
    RETURNING s.id, s.last_seq, s.state_version, s.context, given.key
),
events AS (
    INSERT INTO session_events (session_id, seq, created_at, event_id, event_name, event_type, actor, task_id,
        payload, metadata, entity_ids, publish)
    SELECT id, last_seq, now(), gen_random_uuid(), 'session.updated', 'session.updated', 'bench', key,
        '{"status": "active", "updates": ["context"]}',
        jsonb_build_object('version_to', state_version, 'patch', jsonb_build_array($4)), '{}', false
    FROM changed
),
audit AS (
    INSERT INTO audit_events (event_id, "timestamp", session_id, event_type, actor, action, resource, metadata)
    SELECT gen_random_uuid(), now(), id, 'session_updated', 'bench', 'session.update', 'session:' || id,
        jsonb_build_object('seq', last_seq, 'task_id', key)
    FROM changed
)
INSERT INTO idempotency_keys (key, operation, task_id, body_hash, answer, created_at, expires_at)
SELECT key, 'session.update', key, md5(key), jsonb_build_object('id', id, 'context', context), now(),
    now() + interval '1 day'
FROM changed
"""


def connected(database_url: str) -> connection:
    """A plain psycopg2 connection from a URL as SQLAlchemy takes it."""
    return psycopg2.connect(make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False))


class Bare:
    """One connection and its two statements."""

    def __init__(self, database_url: str) -> None:
        self.db = connected(database_url)
        self.cursor = self.db.cursor()
        self.cursor.execute(LOCK)
        self.cursor.execute(WRITE)
        self.db.commit()

    def update(self, ids: Sequence[str], context: str) -> None:
        """One update of each session, in one transaction."""
        self.cursor.execute("EXECUTE bench_lock (%s)", (f"{{{','.join(ids)}}}",))
        rows = self.cursor.fetchall()
        found, versions = [row[0] for row in rows], [row[1] for row in rows]
        keys = [str(uuid4()) for _ in rows]
        parameters = (f"{{{','.join(found)}}}", versions, keys, context)
        self.cursor.execute("EXECUTE bench_write (%s, %s, %s, %s)", parameters)
        if self.cursor.rowcount != len(ids):
            raise RuntimeError("a version was not the one that had been locked")
        self.db.commit()


def measure(database_url: str, ids: Sequence[str], size: int, seconds: float) -> list[float]:
    """Seconds of each transaction of ``size`` updates."""
    bare = Bare(database_url)
    taken: list[float] = []
    until, turn = time.perf_counter() + seconds, 0
    while (started := time.perf_counter()) < until:
        chosen = [ids[(turn * size + offset) % len(ids)] for offset in range(size)]
        bare.update(chosen, json.dumps({"step": turn}))
        taken.append(time.perf_counter() - started)
        turn += 1
    bare.db.close()
    return taken
