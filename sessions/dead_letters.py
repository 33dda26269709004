"""Task messages nobody could take, and the count that ends their tries (rows D-18, P-11)."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select, text

from models import MessageDeadLetter, MessageDelivery, table_of
from sessionfleet.errors import DeadLetterNotFound, ValidationFailed
from sessionfleet.messages.dead_letters import ListDeadLetters

MOST = 10_000
DAYS = 30
"""What is kept, as of other dead letters (D-12)."""

DELIVERY_DAYS = 7
"""How long a count of deliveries is remembered after the last one."""

LARGEST = 64 * 1024 * 1024
KEPT = 1024 * 1024
"""Bytes of a message that is kept whole, and how much is kept of a larger one."""

SHOWN = 256 * 1024

_letters = table_of(MessageDeadLetter)
_c = _letters.c
_deliveries = table_of(MessageDelivery)

# The same entry read twice, after a crash in between, must not count as the message coming back.
_KEEP = text("""
    INSERT INTO message_dead_letters AS kept (
        digest, queue, task_name, task_id, reason, size, raw, deliveries, seen, first_seen_at, last_seen_at
    )
    VALUES (:digest, :queue, :task_name, :task_id, :reason, :size, :raw, :deliveries, 1, :at, :at)
    ON CONFLICT (digest) DO UPDATE
    SET reason = excluded.reason, deliveries = excluded.deliveries, seen = kept.seen + 1,
        last_seen_at = excluded.last_seen_at
    WHERE excluded.last_seen_at > kept.last_seen_at
""")
_COUNT = text("""
    INSERT INTO message_deliveries AS seen (task_id, deliveries, first_at, last_at)
    VALUES (:task_id, 2, now(), now())
    ON CONFLICT (task_id) DO UPDATE SET deliveries = seen.deliveries + 1, last_at = now()
    RETURNING deliveries
""")
_PRUNE = text("""
    DELETE FROM message_dead_letters
    WHERE last_seen_at < now() - make_interval(days => :days)
       OR id <= (SELECT id FROM message_dead_letters ORDER BY id DESC OFFSET :most LIMIT 1)
""")


@dataclass(frozen=True, slots=True)
class Letter:
    """A message that was put away: its bytes, when (Unix time), why, from which queue ("" unknown)."""

    raw: bytes
    reason: str
    queue: str
    at: float
    deliveries: int


def keep(db: Connection, letters: Sequence[Letter]) -> None:
    """Store them; the same bytes in the same queue are one row that counts how often it was seen."""
    for letter in letters:
        task_name, task_id = _names(letter.raw)
        queue = _storable(letter.queue)
        row = {
            "digest": hashlib.sha256(queue.encode() + b"\n" + letter.raw).hexdigest(),
            "queue": queue,
            "task_name": task_name,
            "task_id": task_id,
            "reason": _storable(letter.reason)[:2000],
            "size": len(letter.raw),
            "raw": letter.raw if len(letter.raw) <= LARGEST else letter.raw[:KEPT],
            "deliveries": letter.deliveries,
            "at": datetime.fromtimestamp(letter.at, UTC),
        }
        db.execute(_KEEP, row)


def _names(raw: bytes) -> tuple[str | None, str | None]:
    """Task name and id, as far as the message tells."""
    try:
        headers = json.loads(raw)["headers"]
        task_name, task_id = headers.get("task"), headers.get("id")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None, None
    return _name(task_name), _name(task_id)


def _name(value: Any) -> str | None:
    return _storable(value)[:255] if isinstance(value, str) else None


def _storable(value: str) -> str:
    return value.replace("\x00", "\\0").encode("utf-8", "backslashreplace").decode()


def page(db: Connection, command: ListDeadLetters) -> dict[str, Any]:
    """``{items, cursor}``: latest first."""
    columns = [column for column in _c if column.name not in ("raw", "digest")]
    statement = select(*columns).order_by(_c.last_seen_at.desc(), _c.id.desc()).limit(command.limit + 1)
    if command.from_queue is not None:
        statement = statement.where(_c.queue == command.from_queue)
    if command.task_name is not None:
        statement = statement.where(_c.task_name == command.task_name)
    if command.reason is not None:
        statement = statement.where(_c.reason.contains(command.reason, autoescape=True))
    if not command.requeued:
        statement = statement.where(_c.requeued_at.is_(None) | (_c.requeued_at < _c.last_seen_at))
    if command.cursor is not None:
        last_seen_at, id_ = _position(command.cursor)
        earlier = (_c.last_seen_at == last_seen_at) & (_c.id < id_)
        statement = statement.where((_c.last_seen_at < last_seen_at) | earlier)
    rows = db.execute(statement).all()
    more = rows[: command.limit]
    cursor = f"{more[-1].last_seen_at.isoformat()}/{more[-1].id}" if len(rows) > command.limit else None
    return {"items": [_document(row) for row in more], "cursor": cursor}


def _position(cursor: str) -> tuple[datetime, int]:
    instant, _, id_ = cursor.partition("/")
    try:
        found = datetime.fromisoformat(instant)
        return found if found.tzinfo else found.replace(tzinfo=UTC), int(id_)
    except ValueError:
        raise ValidationFailed.of("cursor", "is not a cursor this fleet gave out") from None


def show(db: Connection, id_: int) -> dict[str, Any]:
    """One letter with its content; :class:`DeadLetterNotFound`."""
    row = db.execute(select(_letters).where(_c.id == id_)).one_or_none()
    if row is None:
        raise DeadLetterNotFound(id=id_)
    raw = bytes(row.raw)
    shown = raw[:SHOWN]
    try:
        content, encoding = shown.decode(), "utf-8"
    except UnicodeDecodeError:
        content, encoding = base64.b64encode(shown).decode(), "base64"
    return {**_document(row), "raw": content, "encoding": encoding, "complete": len(shown) == row.size}


def _document(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "queue": row.queue,
        "task_name": row.task_name,
        "task_id": row.task_id,
        "reason": row.reason,
        "size": row.size,
        "deliveries": row.deliveries,
        "seen": row.seen,
        "first_seen_at": row.first_seen_at.isoformat(),
        "last_seen_at": row.last_seen_at.isoformat(),
        "requeued_at": None if row.requeued_at is None else row.requeued_at.isoformat(),
    }


def take_for_requeue(db: Connection, ids: Sequence[int]) -> Sequence[Any]:
    """Those of ``ids`` that can go back, locked and marked as requeued, their counts of deliveries forgotten:
    rows with ``id``, ``queue``, ``raw``, oldest first."""
    waiting = _c.requeued_at.is_(None) | (_c.requeued_at < _c.last_seen_at)
    whole = func.octet_length(_c.raw) == _c.size
    rows = db.execute(
        select(_c.id, _c.queue, _c.raw, _c.task_id)
        .where(_c.id.in_(ids), waiting, whole, _c.queue != "")
        .order_by(_c.id)
        .with_for_update()
    ).all()
    if rows:
        taken = [row.id for row in rows]
        db.execute(_letters.update().where(_c.id.in_(taken)).values(requeued_at=func.clock_timestamp()))
        tried = [row.task_id for row in rows if row.task_id is not None]
        db.execute(delete(_deliveries).where(_deliveries.c.task_id.in_(tried)))
    return rows


def discard(db: Connection, ids: Sequence[int]) -> int:
    """Forget letters; how many there were."""
    return db.execute(delete(_letters).where(_c.id.in_(ids))).rowcount


def count_delivery(db: Connection, task_id: str) -> int:
    """The number of this delivery, for a message that is not delivered for the first time: 2 and up."""
    return int(db.execute(_COUNT, {"task_id": task_id}).scalar_one())


def prune(db: Connection) -> int:
    """Removes letters beyond MOST or older than DAYS, and counts of DELIVERY_DAYS ago; how many rows."""
    old = _deliveries.c.last_at < func.now() - text(f"interval '{DELIVERY_DAYS} days'")
    letters = db.execute(_PRUNE, {"days": DAYS, "most": MOST}).rowcount
    return letters + db.execute(delete(_deliveries).where(old)).rowcount
