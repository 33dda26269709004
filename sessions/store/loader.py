"""Loading and locking the rows a transaction's operations name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection, Text, cast, select
from sqlalchemy.dialects import postgresql as pg

from models import Agent, Session, table_of
from sessionfleet.jsontext import decode
from sessions.identifiers import uuid_text
from sessions.pages import stored_size
from sessions.record import COLUMNS, Record
from sessions.store import statements

_sessions = table_of(Session)

_JSON = tuple(column.name for column in _sessions.columns if isinstance(column.type, pg.JSONB))
_AS_TEXT = frozenset({"id", *_JSON})
"""Columns that come as text: to read them here takes half of what the driver's hooks take."""

SELECT = select(*(cast(_sessions.c[name], Text) if name in _AS_TEXT else _sessions.c[name] for name in COLUMNS))
_LOCKED = ", ".join(f'locked."{name}"::text' if name in _AS_TEXT else f'locked."{name}"' for name in COLUMNS)
_NAMED = "(id = ANY ($1) OR (external_id = ANY ($2) AND deleted_at IS NULL))"


def _lock_statement(*, wait: bool) -> str:
    """Locks the named rows; those that somebody holds are waited for, or left out and named in ``held``."""
    held = (
        "NULL"
        if wait
        else f"""(
            SELECT json_agg(json_build_array(id, external_id)) FROM sessions
            WHERE {_NAMED} AND id NOT IN (SELECT id FROM locked)
        )::text"""  # noqa: S608 - names of columns
    )
    return f"""
        WITH locked AS MATERIALIZED (
            SELECT {statements.names_of(COLUMNS)} FROM sessions WHERE {_NAMED} ORDER BY id
            FOR NO KEY UPDATE {"" if wait else "SKIP LOCKED"}
        )
        SELECT {_LOCKED}, {held} AS held, clock_timestamp() AS now, (
            SELECT json_agg(
                CASE WHEN expires_at > clock_timestamp() THEN
                    json_build_array(key, operation, task_id, body_hash, answer)
                ELSE json_build_array(key) END
            ) FROM idempotency_keys WHERE key = ANY ($3)
        )::text AS stored
        FROM (SELECT) AS always LEFT JOIN locked ON true
    """  # noqa: S608 - as above


_LOCK, _LOCK_FREE = _lock_statement(wait=True), _lock_statement(wait=False)
_FORGET = "DELETE FROM idempotency_keys WHERE key = ANY ($1) AND expires_at <= clock_timestamp()"
_STORED = "SELECT 1 FROM idempotency_keys WHERE key = ANY ($1) AND expires_at > clock_timestamp() LIMIT 1"


class Stored(NamedTuple):
    """The first use of an idempotency key."""

    operation: str
    task_id: str
    body_hash: str
    answer: Any


def record_of(row: Any) -> Record:
    """A result row of :data:`SELECT`, or one that begins like it, as a record."""
    columns = dict(zip(COLUMNS, row, strict=False))
    for name in _JSON:
        if (text := columns[name]) is not None:
            columns[name] = {} if text == "{}" else decode(text)
    return Record.of(columns)


_HEAVY = (*_JSON, "account_ids", "tags", "query", "current_directory", "error_message")

_heavy_of = itemgetter(*(COLUMNS.index(name) for name in _HEAVY))

BARE = 1024
"""Bytes of a document beside those columns, about."""

STORED_SIZE = stored_size(*(_sessions.c[name] for name in _HEAVY))
"""What a row has in columns that may be large."""


def weight_of(row: Any) -> int:
    """About how many bytes the document of a result row has as JSON."""
    size = BARE
    for value in _heavy_of(row):
        if value:
            size += len((value if isinstance(value, str) else "".join(value)).encode())
    return size


def split_keys(keys: Collection[str]) -> dict[str, list[str]]:
    """Parameters for a look-up by either id: text that is a uuid may be both."""
    ids = [id_ for key in keys if (id_ := uuid_text(key)) is not None]
    return {"ids": ids, "external_ids": list(keys)}


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a transaction begins with."""

    records: list[Record]
    now: datetime
    """The database clock, read while the locks were held."""
    stored: dict[str, Stored]
    """Answers that were stored when the locks were asked for; see :func:`is_stored`."""
    held: list[tuple[str, str]]
    """Id and external id of the rows that somebody else holds."""


def lock(
    db: Connection,
    keys: Collection[str],
    idempotency_keys: Collection[str],
    lock_seconds: int | None = None,
    *,
    skip_held: bool = False,
) -> Loaded:
    """The sessions with these ids or external ids, locked (FOR NO KEY UPDATE) in id order, which is
    what keeps two transactions over the same sessions from waiting for each other. Tombstones are
    found by id only. With them the clock and the stored answers of these keys; those that have expired and are not
    purged yet go now, so that the keys are free. ``lock_seconds``: see :func:`sessions.store.statements.run`.
    ``skip_held``: wait for no row, leave those out that somebody holds."""
    names = split_keys(keys)
    parameters = [statements.array(names["ids"]), names["external_ids"], list(idempotency_keys)]
    sql = _LOCK_FREE if skip_held else _LOCK
    rows = statements.run(db, sql, ("uuid[]", "text[]", "text[]"), parameters, lock_seconds=lock_seconds).rows
    records = [record_of(row) for row in rows if row[0] is not None]
    answers = decode(rows[0][-1]) if rows[0][-1] else []  # the same in each row
    stored = {key: Stored(*first) for key, *first in answers if first}
    if expired := [key for key, *first in answers if not first]:
        statements.run(db, _FORGET, ("text[]",), [expired])
    held = decode(rows[0][-3]) if rows[0][-3] else []
    return Loaded(records, max(row[-2] for row in rows), stored, held)


def is_stored(db: Connection, idempotency_keys: Collection[str]) -> bool:
    """Whether an answer is stored by now under one of these keys. :func:`lock` sees what was committed when it
    began to wait: the transaction it waited for may have used the same key."""
    return statements.run(db, _STORED, ("text[]",), [list(idempotency_keys)]).count > 0


def by_keys(records: Collection[Record]) -> dict[str, Record]:
    """Records by uuid text and by external id, which a tombstone may share with its successor."""
    found: dict[str, Record] = {}
    for record in records:
        if record.deleted_at is None or record.external_id not in found:
            found[record.external_id] = record
    found.update((record.id, record) for record in records)
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
    if found is None and (id_ := uuid_text(key)) is not None and id_ != key:
        return records.get(id_)
    return found
