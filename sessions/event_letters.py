"""Dead letters of events: kept, listed, given once more, forgotten (row D-12).

The relay writes its own (:func:`sessions.outbox.bury`); those here come from consumer groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, FromClause, Row, Select, Text, cast, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from models import EventDeadLetter, table_of
from sessionfleet.jsontext import decode
from sessionfleet.messages.event_delivery import EventDeadLetters
from sessions.pages import Page, part, stored_size

_letters = table_of(EventDeadLetter)
_c = _letters.c

REASON = 1000
"""Characters of a reason that are kept."""


@dataclass(frozen=True, slots=True)
class GroupLetter:
    """An entry a group gave up. ``subject``: its Stream; ``envelope``: the event, or the fields of an entry that
    holds none."""

    group: str
    entry_id: str
    event_id: str | None
    subject: str
    reason: str
    deliveries: int
    envelope: dict[str, Any]


def keep(db: Connection, letters: Sequence[GroupLetter]) -> int:
    """Stores them, each once however often it comes; how many are new."""
    rows = [
        {
            "event_id": None if letter.event_id is None else UUID(letter.event_id),
            "original_subject": letter.subject,
            "failure_reason": letter.reason[:REASON],
            "deliveries": letter.deliveries,
            "envelope": letter.envelope,
            "consumer_group": letter.group,
            "entry_id": letter.entry_id,
        }
        for letter in letters
    ]
    if not rows:
        return 0
    return len(db.execute(insert(_letters).on_conflict_do_nothing().returning(_c.id), rows).all())


def page(db: Connection, command: EventDeadLetters) -> dict[str, Any]:
    """``{items, next_cursor}``: latest first; keyset by id."""
    statement = select(_letters, stored_size(_c.envelope)).order_by(_c.id.desc())
    if command.group is not None:
        statement = statement.where(_c.consumer_group == command.group)
    if command.session_id is not None:
        statement = statement.where(_c.envelope["session_id"].as_string() == command.session_id)
    if not command.requeued:
        statement = statement.where(_c.requeued_at.is_(None))
    if command.cursor is not None:
        statement = statement.where(_c.id < int(command.cursor))

    def behind(last: Row[Any] | None, limit: int) -> Select[Any]:
        rows = (statement if last is None else statement.where(_c.id < last.id)).limit(limit)
        return part(rows.subquery(), ("id",), _shown, descending=True)

    found = Page(command.limit)
    found.fill(db, behind, lambda row: len(row.envelope.encode()))
    return {
        "items": [_document(row) for row in found.rows],
        "next_cursor": str(found.rows[-1].id) if found.more else None,
    }


def _shown(rows: FromClause) -> Select[Any]:
    return select(*(rows.c[column.name] for column in _c if column.name != "envelope"), cast(rows.c.envelope, Text))


def _document(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "event_id": None if row.event_id is None else str(row.event_id),
        "original_subject": row.original_subject,
        "consumer_group": row.consumer_group,
        "stream_id": row.entry_id,
        "failure_reason": row.failure_reason,
        "deliveries": row.deliveries,
        "dlq_timestamp": row.dlq_timestamp.isoformat(),
        "requeued_at": None if row.requeued_at is None else row.requeued_at.isoformat(),
        "envelope": decode(row.envelope),
    }


def take_for_requeue(db: Connection, ids: Sequence[int]) -> Sequence[Row[Any]]:
    """Those of ``ids`` that are events and were not requeued, locked and marked as requeued, oldest first."""
    wanted = (_c.id.in_(ids), _c.requeued_at.is_(None), _c.event_id.is_not(None))
    rows = db.execute(select(_letters).where(*wanted).order_by(_c.id).with_for_update()).all()
    if rows:
        taken = [row.id for row in rows]
        db.execute(update(_letters).where(_c.id.in_(taken)).values(requeued_at=func.clock_timestamp()))
    return rows


def discard(db: Connection, ids: Sequence[int]) -> int:
    """Forgets letters; how many there were."""
    return db.execute(delete(_letters).where(_c.id.in_(ids))).rowcount
