"""When the database turns out to be another than the Streams were filled from (architecture, section 2).

A dump restored into a new cluster starts transaction ids anew: what is written then has lower stamps than
the saved cursor and than the Streams' entries. A restore to an earlier point, or Redis with somebody else's
Streams, shows as a newest entry that this database does not know. Either way the Streams begin a new
generation. Only the dump needs more: its rows and the new ones cannot be compared by stamp, so everything up
to the ``floor``, the highest event id given out when the restore was noticed, is settled first by id.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from sessions.outbox import ENTRY, NAME, Cursor, Entry

# A row above every published id is unpublished, so in one line of time it lies after the cursor.
_TURNED_BACK = text("""
    SELECT CAST(:xid AS xid8) >= pg_snapshot_xmax(pg_current_snapshot()) OR EXISTS (
        SELECT FROM session_events AS e JOIN relay_cursors AS c ON c.name = :name
        WHERE e.created_at > c.updated_at AND e.id > c.high_id AND (e.xid, e.id) <= (c.xid, c.last_id)
    )
""")
_KNOWS = text("""
    SELECT EXISTS (
        SELECT FROM session_events WHERE xid = CAST(:xid AS xid8) AND id = :id AND event_id::text = :event_id
    )
""")
_FLOOR = text("""
    SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS id,
        pg_snapshot_xmax(pg_current_snapshot())::text AS horizon
    FROM session_events_id_seq
""")
_PASSED = text("SELECT pg_snapshot_xmin(pg_current_snapshot()) >= CAST(:horizon AS xid8)")
_LEFTOVERS = text(f"""
    WITH unpublished AS (
        SELECT * FROM session_events WHERE (xid, id) > (CAST(:xid AS xid8), :last_id)
        UNION ALL
        SELECT e.* FROM session_events AS e JOIN relay_cursors AS c ON c.name = :name
        WHERE e.created_at > c.updated_at AND e.id > :high_id
          AND (e.xid, e.id) <= (CAST(:xid AS xid8), :last_id)
    )
    SELECT '0', {ENTRY}
    FROM unpublished AS e
    LEFT JOIN sessions AS s ON s.id = e.session_id
    LEFT JOIN outbox_failures AS f ON f.event_id = e.event_id
    WHERE e.id > :after AND e.id <= :floor AND e.id > :floor_id
    ORDER BY e.id LIMIT :limit
""")  # noqa: S608 - put together from constants


@dataclass(frozen=True, slots=True)
class Floor:
    """``id``: the highest event id given out; ``horizon``: once every transaction below it has ended, all
    rows up to ``id`` are there."""

    id: int
    horizon: str


def turned_back(db: Connection, cursor: Cursor, name: str = NAME) -> bool:
    """Whether transaction ids began anew since ``cursor``, the saved one, was written."""
    return bool(db.execute(_TURNED_BACK, {"xid": str(cursor.xid), "name": name}).scalar())


def knows(db: Connection, xid: int, id_: int, event_id: str) -> bool:
    """Whether the event of a Stream entry is one of this database."""
    return bool(db.execute(_KNOWS, {"xid": str(xid), "id": id_, "event_id": event_id}).scalar())


def floor(db: Connection) -> Floor:
    """The dividing line between what is settled by id and what is read by stamp."""
    row = db.execute(_FLOOR).one()
    return Floor(row.id, row.horizon)


def is_complete(db: Connection, line: Floor) -> bool:
    """Whether every row up to the floor has been committed or given up."""
    return bool(db.execute(_PASSED, {"horizon": line.horizon}).scalar())


def read_leftovers(
    db: Connection, cursor: Cursor, line: Floor, after: int, limit: int, name: str = NAME
) -> list[Entry]:
    """Unpublished rows up to the floor by id, as :func:`sessions.outbox.read_batch` gives them, with stamp 0."""
    values = {"xid": str(cursor.xid), "last_id": cursor.last_id, "high_id": cursor.high_id}
    values |= {"floor_id": cursor.floor_id, "floor": line.id, "after": after, "limit": limit, "name": name}
    return [Entry._make(row) for row in db.execute(_LEFTOVERS, values)]
