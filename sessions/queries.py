"""Reads of sessions: one, many, counts, history (rows A-20, Q-01..Q-04). They change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    case,
    cast,
    func,
    literal,
    literal_column,
    or_,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB

from models import IdempotencyKey, Session, SessionCount, SessionTransition, table_of
from sessionfleet.errors import SessionNotFound
from sessionfleet.messages import queries as m
from sessionfleet.messages.answers import StoredAnswers
from sessionfleet.words import LIVE, RECOVERABLE, STATUSES
from sessions import cursor
from sessions.document import as_read
from sessions.record import Record
from sessions.store import loader
from sessions.store.loader import SELECT, record_of, split_keys

Document = dict[str, Any]

_c = table_of(Session).c
_counts = table_of(SessionCount).c
_transitions = table_of(SessionTransition)

_EQUAL = (
    "session_type",
    "user_id",
    "owner_id",
    "agent_id",
    "orchestrator_id",
    "conversation_id",
    "priority",
    "work_state",
    "recovery_needed",
)
_RANGES = (
    ("created", _c.created_at),
    ("updated", _c.updated_at),
    ("active", _c.last_activity),
)


_UNCOUNTED = [name for name in m.Filters.__annotations__ if name not in ("status", "include_archived")]
"""Filters for which no numbers are kept."""


def clock(db: Connection) -> datetime:
    """The database clock, which decides what is due."""
    now: datetime = db.execute(select(func.clock_timestamp())).scalar_one()
    return now


def find(db: Connection, key: str, *, deleted: bool = False) -> Record:
    """The session with this uuid or external id; raises SessionNotFound. ``deleted`` also finds
    tombstones (by uuid, or by external id while nobody else took it)."""
    parameters = split_keys([key])
    match = or_(_c.id.in_(parameters["ids"]), _c.external_id == key)
    by_id = _c.id.in_(parameters["ids"]).desc()  # as for writes, should the key be another's external id
    statement = SELECT.where(match).order_by(_c.deleted_at.is_not(None), by_id, _c.created_at.desc()).limit(1)
    if not deleted:
        statement = statement.where(_c.deleted_at.is_(None))
    row = db.execute(statement).first()
    if row is None:
        raise SessionNotFound(session_id=key)
    return record_of(row)


def get(db: Connection, key: str) -> tuple[Record, Document]:
    """One session as stored and as read; raises SessionNotFound."""
    record = find(db, key)
    return record, as_read(record, clock(db))


def get_many(db: Connection, keys: Sequence[str]) -> dict[str, tuple[Record, Document]]:
    """Sessions as stored and as read, by the uuid or external id they were asked for with; one statement.
    Keys of no session are left out."""
    now = clock(db)
    records = loader.by_keys([one for one in loader.read(db, keys) if one.deleted_at is None])
    found = {key: loader.locked_records(records, key) for key in keys}
    return {key: (record, as_read(record, now)) for key, record in found.items() if record is not None}


def page(db: Connection, command: m.List) -> dict[str, Any]:
    """Sessions that match all filters, newest first: ``{items, next_cursor}``."""
    return _page(db, _conditions(command, clock(db)), command.limit, command.cursor)


def active(db: Connection, command: m.ListActive) -> dict[str, Any]:
    """Live sessions that are not overdue, newest first."""
    filters = m.List(status=sorted(LIVE))
    return _page(db, _conditions(filters, clock(db)), command.limit, command.cursor)


def by_user(db: Connection, command: m.GetByUser) -> dict[str, Any]:
    """A user's sessions, newest first, and the newest alone as ``latest``."""
    conditions = _conditions(m.List(user_id=command.user_id), clock(db))
    found = _page(db, conditions, command.limit, command.cursor)
    if command.cursor is None:
        latest = found["items"][0] if found["items"] else None
    else:
        first = _page(db, conditions, 1, None)["items"]
        latest = first[0] if first else None
    return {**found, "latest": latest}


def count(db: Connection, command: m.Count) -> dict[str, Any]:
    """How many sessions match, in all and per status; statuses that do not occur count 0. An overdue session counts
    as what it reads as (E-06). Only filters other than by status read the sessions."""
    now = clock(db)
    statement: Select[Any, Any]
    if all(getattr(command, name) == m.Filters.model_fields[name].default for name in _UNCOUNTED):
        statement = _sums(command, now)
    else:
        status = func.coalesce(_overdue_word(now), _c.status).label("status")
        statement = select(status, func.count()).where(*_conditions(command, now)).group_by(status)
    by_status = dict.fromkeys(STATUSES, 0) | {row[0]: int(row[1]) for row in db.execute(statement)}
    return {"total": sum(by_status.values()), "by_status": by_status}


def _sums(command: m.Count, now: datetime) -> Select[Any, Any]:
    """Numbers of sessions by status from what is kept of them; of the sessions it reads those that are overdue."""
    kept = select(_counts.status, _counts.change.label("number"))
    late = select(_c.status, func.count().label("number")).where(
        _overdue(now), _c.next_check_at <= now, _c.deleted_at.is_(None)
    )
    if not command.include_archived:
        kept, late = kept.where(~_counts.archived), late.where(_c.archived_at.is_(None))
    overdue = late.group_by(_c.status).cte()
    expired = select(literal("expired"), overdue.c.number)
    every = union_all(kept, select(overdue.c.status, -overdue.c.number), expired).subquery()
    sums = select(every.c.status, func.sum(every.c.number)).group_by(every.c.status)
    wanted = _statuses(command)
    return sums if wanted is None else sums.where(every.c.status.in_(wanted))


def answers(db: Connection, command: StoredAnswers) -> dict[str, Any]:
    """Stored answers of these keys that have not expired."""
    keys = table_of(IdempotencyKey).c
    kept = select(keys.key, keys.task_id, keys.answer).where(
        keys.key.in_(command.keys), keys.expires_at > func.statement_timestamp()
    )
    items = [{"idempotency_key": row.key, "task_id": row.task_id, "answer": row.answer} for row in db.execute(kept)]
    return {"items": items}


def history(db: Connection, command: m.History) -> dict[str, Any]:
    """Every transition after ``after_seq``, oldest first; keyset by seq."""
    record = find(db, command.session_id)
    t = _transitions.c
    rows = db.execute(
        select(t.seq, t.from_status, t.to_status, t.reason, t.actor, t.task_id, t.at)
        .where(t.session_id == record.id, t.seq > command.after_seq)
        .order_by(t.seq)
        .limit(command.limit + 1)
    ).all()
    items = [
        {
            "seq": row.seq,
            "from": row.from_status,
            "to": row.to_status,
            "reason": row.reason,
            "actor": row.actor,
            "task_id": row.task_id,
            "at": row.at.isoformat(),
        }
        for row in rows[: command.limit]
    ]
    more = len(rows) > command.limit
    return {"items": items, "next_cursor": items[-1]["seq"] if more else None}


def _overdue_word(now: datetime) -> ColumnElement[Any]:
    return case((_overdue(now), "expired"))


def _overdue(now: datetime) -> ColumnElement[bool]:
    return and_(_c.status.in_(sorted(LIVE | RECOVERABLE)), _c.expires_at <= now)


def _statuses(command: m.Filters) -> Sequence[str] | None:
    return [command.status] if isinstance(command.status, str) else command.status


def _status_condition(statuses: Sequence[str], now: datetime) -> ColumnElement[bool]:
    """Sessions that read as one of ``statuses``: an overdue one reads as expired."""
    stored = and_(_c.status.in_(statuses), ~and_(_overdue(now), _c.status != "expired"))
    if "expired" in statuses:
        return or_(stored, _overdue(now))
    return stored


def _conditions(command: m.Filters, now: datetime) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = [
        _c[name] == value for name in _EQUAL if (value := getattr(command, name)) is not None
    ]
    if (wanted := _statuses(command)) is not None:
        conditions.append(_status_condition(wanted, now))
    conditions += _contained(command) + _in_ranges(command)
    if not command.include_deleted:
        conditions.append(_c.deleted_at.is_(None))
    if not command.include_archived:
        conditions.append(_c.archived_at.is_(None))
    return conditions


def _contained(command: m.Filters) -> list[ColumnElement[bool]]:
    wanted = {"metadata": command.metadata, "context": command.context}
    conditions = [_c[name].contains(value) for name, value in wanted.items() if value is not None]
    for name, value in (("tags", command.tag), ("account_ids", command.account_id)):
        if value is not None:  # the indexes leave out sessions that have none
            conditions += [_c[name].contains([value]), _c[name] != literal_column("'{}'")]
    if command.context is not None:  # for the index's sake; what it has not seen yet is looked at one by one
        keys = func.containment_keys(cast(command.context, JSONB))
        conditions.append(or_(_c.context_pending, _c.context_keys.contains(keys)))
    return conditions


def _in_ranges(command: m.Filters) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    for prefix, column in _RANGES:
        after, before = getattr(command, f"{prefix}_after"), getattr(command, f"{prefix}_before")
        if after is not None:
            conditions.append(column >= after)
        if before is not None:
            conditions.append(column < before)
    return conditions


def _page(db: Connection, conditions: Sequence[ColumnElement[bool]], limit: int, after: str | None) -> dict[str, Any]:
    now = clock(db)
    statement = SELECT.where(*conditions).order_by(_c.created_at.desc(), _c.id.desc()).limit(limit + 1)
    if after is not None:
        statement = statement.where(tuple_(_c.created_at, _c.id) < cursor.decode(after))
    records = [record_of(row) for row in db.execute(statement)]
    shown = records[:limit]
    more = len(records) > limit
    return {
        "items": [as_read(record, now) for record in shown],
        "next_cursor": cursor.encode(shown[-1].created_at, shown[-1].id) if more else None,
    }
