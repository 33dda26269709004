"""The limit: the same durable work in a bare Python process, psycopg2 and prepared statements.

For each operation, in one transaction for all that are given: row lock, version check, row with its
deadline, event, audit row and stored answer (:mod:`benchmarks.bench.statement`); after the commit one
Redis pipeline with the SET of each document, the XADD and the PUBLISH of each event.

What it leaves out against ``session.update`` and ``session.apply``: any message and reply, validation of
arguments, the state machine and the choice of the verb, the search for a stored answer of the same key,
computing the patch, a typed error for each operation, compare-and-set of the cached document and the look-up
by external id. It publishes the event itself, once and to one Stream, in no order and without a trace of it when it
dies in between; the fleet's relay reads committed events in order and gives each to all who may follow it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from uuid import uuid4

import psycopg2
from psycopg2.extensions import connection
from redis import Redis
from sqlalchemy import make_url

from benchmarks.bench import statement

Documents = list[tuple[str, str]]
"""(session id, JSON) of what was written."""

STREAM = "bench:events"


SEARCH_PATH = "bench,public"

TABLES = """
CREATE SCHEMA bench;
CREATE TABLE bench.sessions (LIKE public.sessions INCLUDING ALL) WITH (fillfactor = 80);
CREATE TABLE bench.session_events (LIKE public.session_events INCLUDING ALL) PARTITION BY RANGE (created_at);
CREATE TABLE bench.session_events_all PARTITION OF bench.session_events DEFAULT;
CREATE TABLE bench.audit_events (LIKE public.audit_events INCLUDING ALL) PARTITION BY RANGE ("timestamp");
CREATE TABLE bench.audit_events_all PARTITION OF bench.audit_events DEFAULT;
CREATE TABLE bench.idempotency_keys (LIKE public.idempotency_keys INCLUDING ALL);
INSERT INTO bench.sessions SELECT * FROM public.sessions;
ANALYZE bench.sessions
"""


def connected(database_url: str, search_path: str = "public") -> connection:
    """A plain psycopg2 connection from a URL as SQLAlchemy takes it."""
    url = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg2.connect(url, options=f"-c search_path={search_path}")


def prepare(database_url: str) -> None:
    """Copies of the fleet's tables with all their indexes, and of the sessions that are there, for all who run
    the bare statement: the relay would publish the events they write and so be part of what they cost."""
    with connected(database_url) as db, db.cursor() as cursor:
        cursor.execute(TABLES)
    db.close()


class Bare:
    """One connection and its prepared statements; not for two threads at once."""

    def __init__(self, database_url: str, redis_url: str = "") -> None:
        self.db = connected(database_url, SEARCH_PATH)
        self.db.autocommit = True
        self.cursor = self.db.cursor()
        self.cursor.execute(f"PREPARE bench_one (uuid, bigint, text, jsonb) AS {statement.ONE}")
        self.cursor.execute(f"PREPARE bench_lock (uuid[]) AS {statement.LOCK}")
        self.cursor.execute(f"PREPARE bench_many (uuid[], bigint[], text[], jsonb) AS {statement.MANY}")
        self.redis = Redis.from_url(redis_url) if redis_url else None

    def one(self, session_id: str, context: str) -> Documents:
        """One update: one statement, which is its own transaction."""
        self.cursor.execute("EXECUTE bench_one (%s, NULL, %s, %s)", (session_id, str(uuid4()), context))
        return self._written(1)

    def many(self, ids: Sequence[str], context: str) -> Documents:
        """One update of each session (all different), in one transaction."""
        self.cursor.execute("BEGIN")
        self.cursor.execute("EXECUTE bench_lock (%s)", (_array(ids),))
        rows = self.cursor.fetchall()
        keys = [str(uuid4()) for _ in rows]
        parameters = (_array([row[0] for row in rows]), [row[1] for row in rows], keys, context)
        self.cursor.execute("EXECUTE bench_many (%s, %s, %s, %s)", parameters)
        written = self._written(len(ids))
        self.cursor.execute("COMMIT")
        return written

    def publish(self, documents: Documents) -> None:
        """The cache and the event at once, in one pipeline: SET, XADD and PUBLISH of each document."""
        assert self.redis is not None
        with self.redis.pipeline(transaction=False) as pipe:
            for session_id, document in documents:
                pipe.set(f"bench:doc:{session_id}", document, ex=3600)
                event = json.dumps({"event_name": "session.updated", "session_id": session_id})
                pipe.xadd(STREAM, {"session_id": session_id, "envelope": event}, maxlen=100_000)
                pipe.publish(f"bench:session:{session_id}", event)
            pipe.execute()

    def _written(self, count: int) -> Documents:
        written = self.cursor.fetchall()
        if len(written) != count:
            raise RuntimeError("a version was not the one that had been locked, or a session is missing")
        return written


def _array(words: Sequence[str]) -> str:
    return f"{{{','.join(words)}}}"
