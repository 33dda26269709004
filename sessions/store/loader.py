"""Loading and locking the rows a transaction's operations name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, and_, any_, bindparam, func, literal, or_, select
from sqlalchemy.dialects import postgresql as pg

from models import Agent, IdempotencyKey, Session, table_of
from sessions.record import COLUMNS, Record

_sessions = table_of(Session)
_keys = table_of(IdempotencyKey)

SELECT = select(*(_sessions.c[name] for name in COLUMNS))

_by_key = SELECT.where(
    or_(
        _sessions.c.id == any_(bindparam("ids", type_=pg.ARRAY(pg.UUID))),
        and_(
            _sessions.c.external_id == any_(bindparam("external_ids", type_=pg.ARRAY(pg.TEXT))),
            _sessions.c.deleted_at.is_(None),
        ),
    )
)
_locked = _by_key.order_by(_sessions.c.id).with_for_update(key_share=True)

_stored = select(func.clock_timestamp().label("now"), _keys).select_from(
    select(literal(1))
    .subquery("one")
    .outerjoin(
        _keys,
        and_(
            _keys.c.key == any_(bindparam("keys", type_=pg.ARRAY(pg.TEXT))),
            _keys.c.expires_at > func.clock_timestamp(),
        ),
    )
)


@dataclass(frozen=True, slots=True)
class Stored:
    """The first use of an idempotency key."""

    operation: str
    task_id: str
    body_hash: str
    answer: Any


def record_of(row: Any) -> Record:
    """A result row of :data:`SELECT` as a record."""
    return Record(**dict(zip(COLUMNS, row, strict=True)))


def split_keys(keys: Collection[str]) -> dict[str, list[Any]]:
    """Parameters for a look-up by either id: text that is a uuid may be both."""
    ids: list[UUID] = []
    for key in keys:
        try:
            ids.append(UUID(key))
        except ValueError:
            continue
    return {"ids": ids, "external_ids": list(keys)}


def lock(db: Connection, keys: Collection[str]) -> list[Record]:
    """The sessions with these ids or external ids, locked (FOR NO KEY UPDATE) in id order, which is
    what keeps two transactions over the same sessions from waiting for each other. Tombstones are
    found by id only."""
    if not keys:
        return []
    return [record_of(row) for row in db.execute(_locked, split_keys(keys))]


def read(db: Connection, keys: Collection[str]) -> list[Record]:
    """As :func:`lock`, without locks."""
    return [record_of(row) for row in db.execute(_by_key, split_keys(keys))]


def by_keys(records: Collection[Record]) -> dict[str, Record]:
    """Records by uuid text and by external id, which a tombstone may share with its successor."""
    found = {record.external_id: record for record in sorted(records, key=lambda record: record.deleted_at is None)}
    found.update((str(record.id), record) for record in records)
    return found


def clock_and_answers(db: Connection, keys: Collection[str]) -> tuple[datetime, dict[str, Stored]]:
    """The database clock, and the stored answers of these idempotency keys. Called after the locks
    are held, so it sees what the transaction it waited for has stored."""
    stored: dict[str, Stored] = {}
    rows = db.execute(_stored, {"keys": list(keys)}).all()
    for row in rows:
        if row.key is not None:
            stored[row.key] = Stored(row.operation, row.task_id, row.body_hash, row.answer)
    now: datetime = rows[0].now
    return now, stored


def known_agents(db: Connection, names: Collection[str]) -> frozenset[str]:
    """Those of ``names`` that are registered agents."""
    if not names:
        return frozenset()
    agents = table_of(Agent)
    return frozenset(db.execute(select(agents.c.agent_id).where(agents.c.agent_id.in_(names))).scalars())


def locked_records(records: Mapping[str, Record], key: str | None) -> Record | None:
    """The record of a session key in any spelling of its uuid."""
    if key is None:
        return None
    found = records.get(key)
    if found is None:
        try:
            found = records.get(str(UUID(key)))
        except ValueError:
            return None
    return found
