"""Reads of the event log of one session (rows D-02, D-13, D-17)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, FromClause, Row, Select, Text, cast, select

from models import SessionEvent, table_of
from sessionfleet import renderings
from sessionfleet.jsontext import decode
from sessionfleet.messages.events import GetEvents
from sessionfleet.renderings import Rendering
from sessions import outbox_output
from sessions.pages import Page, part, stored_size
from sessions.queries import find

_events = table_of(SessionEvent)
_c = _events.c

SIZE = stored_size(_c.payload, _c.metadata)
"""What an event has in the columns that may be large."""

AGUI_BYTES = 4 * 1024 * 1024
"""Output a page of AG-UI events carries, about."""


def envelope(row: Any) -> dict[str, Any]:
    """The envelope of a stored event (D-02): the same that pub/sub and Streams carry."""
    return {
        "event_id": str(row.event_id),
        "message_id": f"{row.session_id}-{row.event_name}-{row.seq}",
        "event_name": row.event_name,
        "event_type": row.event_type,
        "aggregate_type": "session",
        "aggregate_id": str(row.session_id),
        "session_id": str(row.session_id),
        "seq": row.seq,
        "timestamp": row.created_at.isoformat(),
        "actor": row.actor,
        "payload": row.payload,
        "metadata": row.metadata,
        "version": row.version,
        "retry_count": 0,
    }


def events(db: Connection, command: GetEvents) -> dict[str, Any]:
    """Events after and before the given seqs: ``{items, next_cursor, last_seq}``, about ANSWER_BYTES of them.

    The cursor is ``seq``; it is never too old while the session exists. A deleted session still
    answers for its tombstone's life what is left, so that cursors end at ``session.deleted``. ``items``
    are envelopes or, with ``render``, what :mod:`sessionfleet.renderings` makes of them.
    """
    session = find(db, command.session_id, deleted=True)
    statement = select(_events, SIZE).where(_c.session_id == session.id, _c.seq > command.after_seq)
    if command.before_seq is not None:
        statement = statement.where(_c.seq < command.before_seq)
    if command.types is not None:
        statement = statement.where(_c.event_name.in_(command.types))
    if command.agents is not None:
        statement = statement.where(_c.actor.in_(command.agents))
    if command.since is not None:
        statement = statement.where(_c.created_at >= command.since)
    if command.until is not None:
        statement = statement.where(_c.created_at < command.until)
    down = command.order == "desc"

    def behind(last: Row[Any] | None, limit: int) -> Select[Any]:
        rows = statement.order_by(_c.seq.desc() if down else _c.seq).limit(limit)
        if last is not None:
            rows = rows.where(_c.seq < last.seq if down else _c.seq > last.seq)
        return part(rows.subquery(), ("seq",), shown, descending=down)

    page = Page(command.limit)
    page.fill(db, behind, weight)
    found: Sequence[Shown] = read(page.rows)
    if command.render == "agui":
        found = outbox_output.affordable(found, AGUI_BYTES)
    return {
        "items": _rendered(db, found, command.render),
        "next_cursor": found[-1].seq if page.more or len(found) < len(page.rows) else None,
        "last_seq": session.last_seq,
    }


def shown(rows: FromClause) -> Select[Any]:
    """What an envelope is made of, from a selection of events; JSON as text, which tells what it weighs."""
    c = rows.c
    plain = (c.session_id, c.seq, c.created_at, c.event_id, c.event_name, c.event_type, c.actor, c.version)
    return select(*plain, cast(c.payload, Text), cast(c.metadata, Text))


class Shown(NamedTuple):
    """An event of :func:`shown` with its JSON read."""

    session_id: UUID
    seq: int
    created_at: datetime
    event_id: UUID
    event_name: str
    event_type: str
    actor: str | None
    version: int
    payload: dict[str, Any]
    metadata: dict[str, Any]


def read(rows: Sequence[Row[Any]]) -> list[Shown]:
    """Result rows of :func:`shown`, or such as begin like it."""
    return [Shown._make((*row[:8], decode(row.payload), decode(row.metadata))) for row in rows]


def weight(row: Row[Any]) -> int:
    """About the bytes of a result row of :func:`shown` as JSON."""
    return len(row.payload.encode()) + len(row.metadata.encode())


def _rendered(db: Connection, rows: Sequence[Shown], render: Rendering | None) -> list[dict[str, Any]]:
    if render is None:
        return [envelope(row) for row in rows]
    if render == "cloudevents":
        return [renderings.cloudevent(envelope(row)) for row in rows]
    chunks = outbox_output.chunks(db, rows)
    found = (renderings.agui(envelope(row), chunks.get(outbox_output.key_of(row) or ("", 0))) for row in rows)
    return [event for events in found for event in events]
