"""The log of all sessions in commit order (row D-14).

The order is the relay's, ``(xid, id)``: rows are shown once every transaction up to their stamp has
ended, so nothing appears behind a cursor. What was settled before a restored database began new stamps,
everything up to the relay's floor, comes first, by id, with 0 for its stamp (see
:mod:`sessions.outbox_generation`); no index serves that part, which is empty in a database that was
never restored from a dump.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, FromClause, Row, Select, TextClause, column, text

from sessionfleet.messages.event_delivery import ReplayEvents
from sessions.event_queries import envelope, read, shown, weight
from sessions.pages import Page, part

Position = tuple[int, int]
"""Stamp and id of the last event read; (0, 0) is the beginning."""

SLACK = timedelta(minutes=5)
"""By how much stamps and instants may disagree: no transaction of the fleet is open for longer."""

_FLOOR = "coalesce((SELECT max(floor_id) FROM relay_cursors), 0)"
_NAMES = (
    *("session_id", "seq", "created_at", "event_id", "event_name", "event_type", "actor", "payload", "metadata"),
    *("version", "id", "xid", "stamp", "size"),
)
_COLUMNS = """
    session_id, seq, created_at, event_id, event_name, event_type, actor, payload, metadata, version, id,
    xid::text AS xid, xid AS stamp, pg_column_size(payload) + pg_column_size(metadata) AS size
"""
# Whatever was written SLACK before `since` has a stamp not above those written after it. The lowest of
# some rows, as an imported old event has the stamp of its import. Subtracted there: before the year 1 is no datetime.
_START = text("""
    SELECT coalesce(min(xid::text::bigint), 0) FROM (
        SELECT xid FROM session_events
        WHERE created_at <= CAST(:since AS timestamptz) - CAST(:slack AS interval) AND id > :floor
        ORDER BY created_at DESC LIMIT 100
    ) AS earlier
""")
_HAS_FLOOR = text(f"SELECT {_FLOOR}")
_SETTLED = f"""
    SELECT {_COLUMNS} FROM session_events
    WHERE id > :id AND id <= :floor {{filters}} ORDER BY id LIMIT :limit
"""  # noqa: S608
_READY = f"""
    SELECT {_COLUMNS} FROM session_events
    WHERE (xid, id) > (CAST(:xid AS xid8), :id) AND xid < pg_snapshot_xmin(pg_current_snapshot())
      AND id > :floor {{filters}}
    ORDER BY session_events.xid, id LIMIT :limit
"""  # noqa: S608
_WAITING = """
    SELECT EXISTS (
        SELECT FROM session_events
        WHERE (xid, id) > (CAST(:xid AS xid8), :id) AND xid >= pg_snapshot_xmin(pg_current_snapshot())
          AND id > :floor {filters}
    )
"""
_FILTERS = {
    "since": "created_at >= :since",
    "until": "created_at < :until",
    "types": "event_name = ANY (:types)",
    "session_ids": "session_id = ANY (CAST(:session_ids AS uuid[]))",
}


class Replay(NamedTuple):
    """A page, and whether it ends because an open transaction holds back what follows."""

    answer: dict[str, Any]
    held: bool


def replay(db: Connection, command: ReplayEvents) -> Replay:
    """One page: ``{items, next_cursor, cursor}``. Needs READ COMMITTED; locks nothing.

    ``next_cursor`` is None when nothing that is committed is left; an open transaction that holds committed
    events back leaves one, maybe with an empty page. Limits: an event imported with an old instant comes
    where its import is, not where its instant would be; with ``since`` it may be left out. A deleted session's
    events are gone from the log, but for its last one.
    """
    floor: int = db.execute(_HAS_FLOOR).scalar_one()
    position = _position(command.cursor) if command.cursor else (0, 0)
    page = Page(command.limit)

    def fill(query: str, order: Sequence[str], start: Position) -> None:
        def behind(last: Row[Any] | None, limit: int) -> Select[Any]:
            values = _values(command, start if last is None else _place(last, floor), floor)
            if query == _SETTLED:
                del values["xid"]
            found = _filtered(query, command).bindparams(**values, limit=limit).columns(*map(column, _NAMES))
            return part(found.subquery(), order, _shown)

        page.fill(db, behind, weight)

    if position[0] == 0 and position[1] < floor:
        fill(_SETTLED, ("id",), position)
    if not page.more:
        position = max(position, (0, floor), _start(db, command.since, floor))
        fill(_READY, ("stamp", "id"), position)
    if page.rows:
        position = _place(page.rows[-1], floor)
    cursor = f"{position[0]}-{position[1]}"
    held = not page.more and _are_waiting(db, command, position, floor)
    answer = {
        "items": [envelope(row) for row in read(page.rows)],
        "next_cursor": cursor if page.more or held else None,
        "cursor": cursor,
    }
    return Replay(answer, held)


def _place(row: Row[Any], floor: int) -> Position:
    return 0 if row.id <= floor else int(row.xid), row.id


def _shown(rows: FromClause) -> Select[Any]:
    return shown(rows).add_columns(rows.c.id, rows.c.xid)


def _are_waiting(db: Connection, command: ReplayEvents, position: Position, floor: int) -> bool:
    return bool(db.execute(_filtered(_WAITING, command), _values(command, position, floor)).scalar())


def _filtered(query: str, command: ReplayEvents) -> TextClause:
    wanted = (condition for name, condition in _FILTERS.items() if getattr(command, name) is not None)
    return text(query.format(filters="".join(f" AND {condition}" for condition in wanted)))


def _values(command: ReplayEvents, position: Position, floor: int) -> dict[str, Any]:
    values = {name: value for name in _FILTERS if (value := getattr(command, name)) is not None}
    if command.session_ids is not None:
        values["session_ids"] = [str(each) for each in command.session_ids]
    return {**values, "xid": str(position[0]), "id": position[1], "floor": floor}


def _start(db: Connection, since: datetime | None, floor: int) -> Position:
    """Where to begin, so that a read of the last hour does not walk the log from its first event."""
    if since is None:
        return 0, 0
    stamp: int = db.execute(_START, {"since": since, "slack": SLACK, "floor": floor}).scalar_one()
    return max(0, stamp - 1), 0


def _position(cursor: str) -> Position:
    stamp, _, id_ = cursor.partition("-")
    return int(stamp), int(id_)
