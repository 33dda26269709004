"""A database full of sessions and events, made by SQL: copies of one session that the fleet made.

Indexes and keys are dropped before and made anew after it, which is several times faster than to keep them
up; the server should run with ``wal_level`` minimal, so that new tables are synced instead of logged. The
relay must not run yet: its cursor is set past all that is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg2.extensions import cursor

from benchmarks.bench.bare import connected
from sessions.record import COLUMNS

AGENT_SESSIONS = 100
"""Sessions of one agent, whatever the size of the database."""

_OWN = {
    "id": "gen_random_uuid()",
    "external_id": "gen_random_uuid()::text",
    "agent_id": f"'agent-' || n / {AGENT_SESSIONS}",
    "user_id": f"'user-' || n / {AGENT_SESSIONS}",
    "context": "context || jsonb_build_object('step', n)",
    "created_at": "now() - n * interval '10 ms'",
    "updated_at": "now()",
    "last_activity": "now()",
    "expires_at": "now() + interval '1 day'",
    "next_check_at": "now() + interval '12 hours'",
    "last_seq": "%(each)s",
    "state_version": "%(each)s",
    "revision": "%(each)s",
    "context_keys": "containment_keys(context || jsonb_build_object('step', n))",
    "context_pending": "false",
}

_SESSIONS = """
    INSERT INTO sessions ({columns}) SELECT {values} FROM template CROSS JOIN generate_series(1, %(count)s) AS n
"""

_EVENTS = """
    INSERT INTO session_events (session_id, seq, created_at, event_id, event_name, event_type, actor, task_id,
        payload, metadata, entity_ids, xid)
    SELECT s.id, seq, now(), gen_random_uuid(), 'session.updated', 'session.updated', 'bench', s.external_id,
        '{"agent_id": "agent", "status": "active", "updates": ["context"]}',
        '{"version_from": 6, "version_to": 7, "patch": [{"op": "replace", "path": "/context/step", "value": 7}]}',
        '{}', pg_current_xact_id()
    FROM sessions s CROSS JOIN generate_series(1, %(each)s) AS seq
"""

_COUNTS = """
    INSERT INTO session_counts (status, archived, change)
    SELECT status, false, count(*) FROM sessions GROUP BY status
"""

_CURSOR = """
    DELETE FROM relay_cursors;
    INSERT INTO relay_cursors (name, xid, last_id, high_id, floor_id, generation, updated_at)
    SELECT 'relay', xid, id, id, 0, 1, clock_timestamp() FROM session_events ORDER BY xid DESC, id DESC LIMIT 1
"""


def seed(database_url: str, sessions: int, each: int) -> None:
    """``sessions`` sessions with ``each`` events (1 up), active and due tomorrow, in place of the one that is there.

    Needs the owner's login and nobody else at work; vacuumed, analysed and on disk when it returns.
    """
    columns = list(dict.fromkeys((*COLUMNS, *_OWN)))
    values = [f"{_OWN.get(name, name)} AS {name}" for name in columns]
    insert = _SESSIONS.format(columns=", ".join(columns), values=", ".join(values))
    parameters = {"count": sessions, "each": each}
    with connected(database_url) as db, db.cursor() as run:
        run.execute("SET maintenance_work_mem = '1GB'")
        run.execute("CREATE TEMP TABLE template ON COMMIT DROP AS SELECT * FROM sessions LIMIT 1")
        run.execute("TRUNCATE sessions, session_events, session_transitions, idempotency_keys")
        run.execute("ALTER TABLE sessions DISABLE TRIGGER sessions_counted_insert")
        with _bare(run, "sessions"):
            run.execute(insert, parameters)
        run.execute("ALTER TABLE sessions ENABLE TRIGGER sessions_counted_insert")
        run.execute(_COUNTS)
        with _bare(run, "session_events"):
            run.execute(_EVENTS, parameters)
        run.execute(_CURSOR)
    db.autocommit = True
    with db.cursor() as run:
        run.execute("VACUUM (ANALYZE) sessions")
        run.execute("VACUUM (ANALYZE) session_events")
        run.execute("CHECKPOINT")
    db.close()


@contextmanager
def _bare(run: cursor, table: str) -> Iterator[None]:
    """A table without its indexes and its primary key, which come back as they were."""
    run.execute(
        "SELECT format('ALTER TABLE %%I DROP CONSTRAINT %%I', %(table)s, conname),"
        " format('ALTER TABLE %%I ADD CONSTRAINT %%I %%s', %(table)s, conname, pg_get_constraintdef(oid))"
        " FROM pg_constraint WHERE conrelid = %(table)s::regclass AND contype IN ('p', 'u')"
        " UNION ALL SELECT format('DROP INDEX %%s', indexrelid::regclass),"
        " replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ')"
        " FROM pg_index i WHERE indrelid = %(table)s::regclass"
        " AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)",
        {"table": table},
    )
    statements = run.fetchall()
    for drop, _ in statements:
        run.execute(drop)
    yield
    for _, make in statements:
        run.execute(make)
