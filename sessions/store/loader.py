"""Loading and locking the rows a transaction's operations name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, and_, any_, bindparam, or_, select
from sqlalchemy.dialects import postgresql as pg

from models import Agent, Session, table_of
from sessions.record import COLUMNS, Record
from sessions.store import statements

_sessions = table_of(Session)

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
_COLUMNS = statements.names_of(COLUMNS)
_LOCK = f"""
    WITH locked AS MATERIALIZED (
        SELECT {_COLUMNS} FROM sessions
        WHERE id = ANY ($1) OR (external_id = ANY ($2) AND deleted_at IS NULL)
        ORDER BY id FOR NO KEY UPDATE
    )
    SELECT {statements.names_of(COLUMNS, "locked.")}, clock_timestamp() AS now, (
        SELECT jsonb_agg(
            CASE WHEN expires_at > clock_timestamp() THEN
                jsonb_build_array(key, operation, task_id, body_hash, answer)
            ELSE jsonb_build_array(key) END
        ) FROM idempotency_keys WHERE key = ANY ($3)
    ) AS stored
    FROM (SELECT) AS always LEFT JOIN locked ON true
"""  # noqa: S608 - names of columns
_FORGET = "DELETE FROM idempotency_keys WHERE key = ANY ($1) AND expires_at <= clock_timestamp()"
_STORED = "SELECT 1 FROM idempotency_keys WHERE key = ANY ($1) AND expires_at > clock_timestamp() LIMIT 1"


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


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a transaction begins with."""

    records: list[Record]
    now: datetime
    """The database clock, read while the locks were held."""
    stored: dict[str, Stored]
    """Answers that were stored when the locks were asked for; see :func:`is_stored`."""


def lock(
    db: Connection, keys: Collection[str], idempotency_keys: Collection[str], lock_seconds: int | None = None
) -> Loaded:
    """The sessions with these ids or external ids, locked (FOR NO KEY UPDATE) in id order, which is
    what keeps two transactions over the same sessions from waiting for each other. Tombstones are
    found by id only. With them the clock and the stored answers of these keys; those that have expired and are not
    purged yet go now, so that the keys are free. ``lock_seconds``: see :func:`sessions.store.statements.run`."""
    names = split_keys(keys)
    parameters = [statements.array(map(str, names["ids"])), names["external_ids"], list(idempotency_keys)]
    rows = statements.run(db, _LOCK, ("uuid[]", "text[]", "text[]"), parameters, lock_seconds=lock_seconds).rows
    records = [record_of(row[: len(COLUMNS)]) for row in rows if row[0] is not None]
    stored = {key: Stored(*first) for key, *first in rows[0][-1] or () if first}
    if expired := [key for key, *first in rows[0][-1] or () if not first]:
        statements.run(db, _FORGET, ("text[]",), [expired])
    return Loaded(records, max(row[-2] for row in rows), stored)


def is_stored(db: Connection, idempotency_keys: Collection[str]) -> bool:
    """Whether an answer is stored by now under one of these keys. :func:`lock` sees what was committed when it
    began to wait: the transaction it waited for may have used the same key."""
    return statements.run(db, _STORED, ("text[]",), [list(idempotency_keys)]).count > 0


def read(db: Connection, keys: Collection[str]) -> list[Record]:
    """As :func:`lock`, without locks."""
    return [record_of(row) for row in db.execute(_by_key, split_keys(keys))]


def by_keys(records: Collection[Record]) -> dict[str, Record]:
    """Records by uuid text and by external id, which a tombstone may share with its successor."""
    found = {record.external_id: record for record in sorted(records, key=lambda record: record.deleted_at is None)}
    found.update((str(record.id), record) for record in records)
    return found


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
