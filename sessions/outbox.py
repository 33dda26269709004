"""The event log as the relay reads it (rows D-08, D-09, D-12): event rows are the outbox, nothing marks them.

Reading order is ``(xid, id)``, see :mod:`models.session_event`. A row is read once every transaction up to
its stamp has ended, so that nothing can still appear before it. The cursor says how far everything was
published; it is saved some time after publishing, and a row read twice is refused by Redis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, text

from sessions.store import statements

NAME = "relay"
"""Of the relay's cursor and of its lease."""

MAX_BATCH = 500
"""Events a read takes, at most (D-08)."""

BATCH_BYTES = 4 * 1024 * 1024
"""Stored size of payloads a read takes, about; one event always fits."""

DEAD_LETTERS = 10_000
DEAD_LETTER_DAYS = 30
"""What is kept of dead letters (D-12)."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far the relay has come; see :class:`models.relay.RelayCursor`."""

    xid: int
    last_id: int
    high_id: int
    floor_id: int
    generation: int

    def at(self, xid: int, id_: int) -> Cursor:
        """This cursor moved on to an event."""
        return Cursor(xid, id_, max(self.high_id, id_), self.floor_id, self.generation)


@dataclass(frozen=True, slots=True)
class Leader:
    """Whose writes count: the holder of the relay's lease and its epoch."""

    holder: str
    epoch: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event given up. ``subject``: the channel it was for; ``deliveries``: tries; ``envelope``: JSON."""

    event_id: str
    subject: str
    reason: str
    deliveries: int
    envelope: str


class Entry(NamedTuple):
    """An event row as the relay needs it, with what it takes from the session's row: its ``status`` is None where
    that is gone."""

    xid: str
    id: int
    event_id: str
    session_id: str
    seq: int
    event_name: str
    event_type: str
    actor: str | None
    payload: dict[str, Any]
    metadata: dict[str, Any]
    entity_ids: list[str]
    version: int
    publish: bool
    created_at: datetime
    max_events: int | None
    last_chunk: int
    status: str | None
    retry_count: int
    refusals: int


class Batch(NamedTuple):
    """Entries that may be published, in order. ``more``: behind them lie some that may too; ``waiting``: behind them
    lie only some that may not yet."""

    entries: list[Entry]
    more: bool
    waiting: bool


ENTRY = """e.id, e.event_id::text, e.session_id::text, e.seq, e.event_name, e.event_type, e.actor, e.payload,
        e.metadata, e.entity_ids, e.version, e.publish, e.created_at, s.max_events,
        coalesce(s.last_chunk, 0), s.status, coalesce(f.retry_count, 0), coalesce(f.refusals, 0)"""
"""The columns of :class:`Entry` behind the first, of event ``e``, its session ``s`` and its failures ``f``."""

# Read after each hint: prepared, since to plan a read of partitions takes longer than to run it. A plan made while
# the month was empty would scan or sort all that came since, so it has to walk the indexes. Limits stand in the
# text, so that the plan knows how few rows it is for. The size is that of the stored value: nothing is read from the
# side tables for rows left out. Of rows that are not ready, which come last, only the first is answered, and that
# only if nothing is ready.
_READ = f"""
    SELECT e.ready, e.next_ready, e.xid::text, {ENTRY}
    FROM (
        SELECT *, row_number() OVER reading AS place, sum(pg_column_size(payload)) OVER reading AS size,
            lead(ready) OVER reading AS next_ready
        FROM (
            SELECT *, xid < (SELECT pg_snapshot_xmin(pg_current_snapshot())) AS ready FROM session_events
            WHERE (xid, id) > ($1, $2) AND id > $3
            ORDER BY xid, id LIMIT {{limit}}
        ) AS found
        WINDOW reading AS (ORDER BY xid, id ROWS UNBOUNDED PRECEDING)
    ) AS e
    LEFT JOIN LATERAL (
        SELECT max_events, last_chunk, status FROM sessions WHERE id = e.session_id LIMIT 1  -- never read whole
    ) AS s ON true
    LEFT JOIN outbox_failures AS f ON f.event_id = e.event_id
    WHERE e.place = 1 OR (e.ready AND e.size <= $4)
    ORDER BY e.xid, e.id
"""  # noqa: S608 - put together from constants
_PENDING = """
    SELECT count(*) FROM (
        SELECT FROM session_events
        WHERE (xid, id) > ($1, $2) AND id > $3
        ORDER BY xid, id LIMIT {most}  -- ordered, so that it walks the index from the cursor on
    ) AS rows
"""
# Commit order and order of creation are nearly the same; for trimming by age that is enough.
_BEFORE = text("""
    SELECT xid::text AS xid, id FROM session_events
    WHERE created_at < now() - make_interval(secs => :age) AND id > :floor_id
      AND (xid, id) <= (CAST(:xid AS xid8), :last_id)
    ORDER BY created_at DESC LIMIT 1
""")
_NEW_CURSOR = text("""
    INSERT INTO relay_cursors (name, xid, last_id, high_id, floor_id, generation, updated_at)
    VALUES (:name, '0', 0, 0, 0, 1, clock_timestamp()) ON CONFLICT (name) DO NOTHING
""")
_LOAD = text("""
    SELECT xid::text AS xid, last_id, high_id, floor_id, generation FROM relay_cursors WHERE name = :name
""")
# Losing the last saves in a crash of the server is harmless: Redis refuses what is published again.
_SAVE = """
    UPDATE relay_cursors
    SET xid = CAST(:xid AS xid8), last_id = :last_id, high_id = :high_id, floor_id = :floor_id,
        generation = :generation, updated_at = clock_timestamp()
    WHERE name = :name
      AND EXISTS (SELECT FROM leader_leases WHERE name = :name AND holder = :holder AND epoch = :epoch)
    RETURNING name
"""
_SAVE_PREPARED = """
    UPDATE relay_cursors
    SET xid = $1, last_id = $2, high_id = $3, floor_id = $4, generation = $5, updated_at = clock_timestamp()
    WHERE name = $6 AND EXISTS (SELECT FROM leader_leases WHERE name = $6 AND holder = $7 AND epoch = $8)
    RETURNING name
"""
_BURY = text(f"""
    WITH saved AS ({_SAVE}), forgotten AS (
        DELETE FROM outbox_failures WHERE event_id = CAST(:event_id AS uuid) AND EXISTS (SELECT FROM saved)
    )
    INSERT INTO event_dead_letters (event_id, original_subject, failure_reason, deliveries, envelope)
    SELECT CAST(:event_id AS uuid), :subject, :reason, :deliveries, CAST(:envelope AS jsonb) FROM saved
    RETURNING id
""")  # noqa: S608 - put together from constants

_FAIL = text("""
    INSERT INTO outbox_failures AS f (event_id, retry_count, refusals, last_error, next_try_at)
    SELECT event_id, 1, :refusal, :error, clock_timestamp() + make_interval(secs => 1)
    FROM unnest(CAST(:event_ids AS uuid[])) AS event_id
    ON CONFLICT (event_id) DO UPDATE
    SET retry_count = f.retry_count + 1, refusals = f.refusals + excluded.refusals,
        last_error = excluded.last_error,
        next_try_at = clock_timestamp() + make_interval(secs => least(60, 2 ^ least(f.retry_count, 6)))
    RETURNING event_id::text, refusals
""")
_CLEAR = text("DELETE FROM outbox_failures WHERE event_id = ANY (CAST(:event_ids AS uuid[]))")
_PRUNE = text("""
    DELETE FROM event_dead_letters
    WHERE dlq_timestamp < now() - make_interval(days => :days)
       OR id <= (SELECT id FROM event_dead_letters ORDER BY id DESC OFFSET :most LIMIT 1)
""")


def load_cursor(db: Connection, name: str = NAME) -> Cursor:
    """The saved cursor; a relay that starts for the first time begins with the first event."""
    row = db.execute(_LOAD, {"name": name}).first()
    if row is None:
        db.execute(_NEW_CURSOR, {"name": name})
        row = db.execute(_LOAD, {"name": name}).one()
    return Cursor(int(row.xid), row.last_id, row.high_id, row.floor_id, row.generation)


def save_cursor(db: Connection, cursor: Cursor, leader: Leader, name: str = NAME) -> bool:
    """Saves how far everything is published; False, and nothing saved, when ``leader`` leads no more."""
    numbers = [str(cursor.xid), cursor.last_id, cursor.high_id, cursor.floor_id, cursor.generation]
    types = ("xid8", "bigint", "bigint", "bigint", "bigint", "text", "text", "bigint")
    values = [*numbers, name, leader.holder, leader.epoch]
    return statements.run(db, _SAVE_PREPARED, types, values).count > 0


def bury(db: Connection, cursor: Cursor, leader: Leader, letter: DeadLetter, name: str = NAME) -> bool:
    """Keeps an event nobody takes and moves the cursor past it, both or, when ``leader`` leads no more,
    neither; then the answer is False."""
    values = _saving(cursor, leader, name) | {
        "event_id": letter.event_id,
        "subject": letter.subject,
        "reason": letter.reason[:1000],
        "deliveries": letter.deliveries,
        "envelope": letter.envelope,
    }
    return db.execute(_BURY, values).first() is not None


def read_batch(db: Connection, cursor: Cursor, limit: int = MAX_BATCH) -> Batch:
    """The next events in order, at most ``limit`` and about BATCH_BYTES; locks nothing.

    Needs READ COMMITTED, one statement one snapshot: rows and horizon are of the same instant.
    """
    values = [*_after(cursor), BATCH_BYTES]
    sql, types = _READ.format(limit=int(limit)), (*_AFTER, "bigint")
    found = statements.run(db, sql, types, values, by_index=True).rows
    entries = [Entry._make(row[2:]) for row in found if row[0]]
    next_ready = (found[-1][1] if entries else False) if found else None
    return Batch(entries, len(entries) == limit or next_ready is True, next_ready is False)


def pending(db: Connection, cursor: Cursor, most: int = 100_000) -> int:
    """Committed events after the cursor, counted up to ``most``; among them those behind a transaction that
    is still open, which :func:`read_batch` does not see yet."""
    [row] = statements.run(db, _PENDING.format(most=int(most)), _AFTER, _after(cursor), by_index=True).rows
    count: int = row[0]
    return count


def position_before(db: Connection, cursor: Cursor, age: float = 7 * 86_400) -> tuple[int, int] | None:
    """Stamp and id of the newest published event that is older than ``age`` seconds, or None."""
    row = db.execute(_BEFORE, {**_parameters(cursor), "age": age}).first()
    return None if row is None else (int(row.xid), row.id)


def record_failures(
    db: Connection, event_ids: Sequence[str], error: str, kind: Literal["outage", "refusal"]
) -> dict[str, int]:
    """Counts a failed try for each event; answers how often each was refused for its own sake."""
    values = {
        "event_ids": [str(each) for each in event_ids],
        "error": error[:1000],
        "refusal": int(kind == "refusal"),
    }
    return {row.event_id: row.refusals for row in db.execute(_FAIL, values)}


def clear_failures(db: Connection, event_ids: Sequence[str]) -> None:
    """Forgets the failed tries of events that are published now."""
    db.execute(_CLEAR, {"event_ids": list(event_ids)})


def prune_dead_letters(db: Connection) -> int:
    """Removes dead letters beyond DEAD_LETTERS or older than DEAD_LETTER_DAYS; answers how many."""
    return db.execute(_PRUNE, {"days": DEAD_LETTER_DAYS, "most": DEAD_LETTERS}).rowcount


def _saving(cursor: Cursor, leader: Leader, name: str) -> dict[str, Any]:
    values = _parameters(cursor) | {"high_id": cursor.high_id, "generation": cursor.generation, "name": name}
    return values | {"holder": leader.holder, "epoch": leader.epoch}


_AFTER = ("xid8", "bigint", "bigint")


def _after(cursor: Cursor) -> list[Any]:
    return [str(cursor.xid), cursor.last_id, cursor.floor_id]


def _parameters(cursor: Cursor) -> dict[str, Any]:
    return {"xid": str(cursor.xid), "last_id": cursor.last_id, "floor_id": cursor.floor_id}
