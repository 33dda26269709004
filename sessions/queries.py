"""Reads of sessions: one, many, counts, history (rows A-20, Q-01..Q-04). They change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Row,
    Select,
    Text,
    and_,
    any_,
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
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TEXT
from sqlalchemy.dialects.postgresql import UUID as UUID_TYPE

from models import IdempotencyKey, Session, SessionCount, SessionTransition, table_of
from sessionfleet.errors import SessionNotFound
from sessionfleet.jsontext import decode
from sessionfleet.messages import queries as m
from sessionfleet.messages.answers import StoredAnswers
from sessionfleet.words import LIVE, RECOVERABLE, STATUSES
from sessions import cursor
from sessions.document import as_read
from sessions.pages import Page, part, stored_size
from sessions.policy import Policy
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


def get(db: Connection, key: str, policy: Policy) -> tuple[Record, Document]:
    """One session as stored and as read; raises SessionNotFound."""
    record = find(db, key)
    return record, as_read(record, clock(db), policy)


def get_many(
    db: Connection, keys: Sequence[str], most: int, policy: Policy
) -> tuple[dict[str, tuple[Record, Document]], bool]:
    """Sessions as stored and as read, by the uuid or external id they were asked for with, about ``most`` bytes of
    them; whether there are more. Keys of no session are left out."""
    now = clock(db)
    parameters = split_keys(keys)
    named = or_(
        _c.id == any_(cast(parameters["ids"], ARRAY(UUID_TYPE))),
        and_(_c.external_id == any_(cast(parameters["external_ids"], ARRAY(TEXT))), _c.deleted_at.is_(None)),
    )

    def after(last: Row[Any] | None, limit: int) -> Select[Any]:
        rows = select(_c.id, loader.STORED_SIZE).where(named).order_by(_c.id).limit(limit)
        return _part(rows if last is None else rows.where(_c.id > UUID(last.id)), ("id",))

    page = Page(2 * len(keys), most)  # an id may be the external id of another
    page.fill(db, after, loader.weight_of)
    present = [record for row in page.rows if (record := record_of(row)).deleted_at is None]
    records = loader.by_keys(present)
    found = {key: loader.locked_records(records, key) for key in keys}
    read = {key: (record, as_read(record, now, policy)) for key, record in found.items() if record is not None}
    return read, page.more


def page(db: Connection, command: m.List, policy: Policy) -> dict[str, Any]:
    """Sessions that match all filters, newest first: ``{items, next_cursor}``."""
    return _page(db, _conditions(command, clock(db)), command.limit, command.cursor, policy)


def active(db: Connection, command: m.ListActive, policy: Policy) -> dict[str, Any]:
    """Live sessions that are not overdue, newest first."""
    filters = m.List(status=sorted(LIVE))
    return _page(db, _conditions(filters, clock(db)), command.limit, command.cursor, policy)


def by_user(db: Connection, command: m.GetByUser, policy: Policy) -> dict[str, Any]:
    """A user's sessions, newest first, and the newest alone as ``latest``."""
    conditions = _conditions(m.List(user_id=command.user_id), clock(db))
    found = _page(db, conditions, command.limit, command.cursor, policy)
    if command.cursor is None:
        latest = found["items"][0] if found["items"] else None
    else:
        first = _page(db, conditions, 1, None, policy)["items"]
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
    """Stored answers of these keys that have not expired. ``left``: keys to ask for again, where all of them are
    more than one answer carries."""
    keys = table_of(IdempotencyKey).c

    def after(last: Row[Any] | None, limit: int) -> Select[Any]:
        kept = select(keys.key, keys.task_id, keys.answer, stored_size(keys.answer)).where(
            keys.key.in_(command.keys), keys.expires_at > func.statement_timestamp()
        )
        kept = kept if last is None else kept.where(keys.key > last.key)
        rows = kept.order_by(keys.key).limit(limit).subquery()
        return part(rows, ("key",), lambda rows: select(rows.c.key, rows.c.task_id, cast(rows.c.answer, Text)))

    page = Page(len(command.keys))
    page.fill(db, after, lambda row: len(row.answer or ""))
    items = [
        {"idempotency_key": row.key, "task_id": row.task_id, "answer": decode(row.answer or "null")}
        for row in page.rows
    ]
    given = {row.key for row in page.rows}
    return {"items": items, "left": [key for key in command.keys if key not in given] if page.more else []}


def history(db: Connection, command: m.History) -> dict[str, Any]:
    """Every transition after ``after_seq``, oldest first; keyset by seq."""
    record = find(db, command.session_id)
    t = _transitions.c
    columns = ("seq", "from_status", "to_status", "reason", "actor", "task_id", "at")

    def after(last: Row[Any] | None, limit: int) -> Select[Any]:
        seq = command.after_seq if last is None else last.seq
        rows = select(*t[columns], stored_size(t.reason)).where(t.session_id == record.id, t.seq > seq)
        return part(rows.order_by(t.seq).limit(limit).subquery(), ("seq",), lambda rows: select(*rows.c[columns]))

    page = Page(command.limit)
    page.fill(db, after, lambda row: len((row.reason or "").encode()))
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
        for row in page.rows
    ]
    return {"items": items, "next_cursor": items[-1]["seq"] if page.more else None}


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


def _page(
    db: Connection, conditions: Sequence[ColumnElement[bool]], limit: int, after: str | None, policy: Policy
) -> dict[str, Any]:
    now = clock(db)
    start = None if after is None else cursor.decode(after)

    def behind(last: Row[Any] | None, most: int) -> Select[Any]:
        rows = select(_c.id, _c.created_at, loader.STORED_SIZE).where(*conditions)
        rows = rows.order_by(_c.created_at.desc(), _c.id.desc()).limit(most)
        place = start if last is None else (last.created_at, UUID(last.id))
        rows = rows if place is None else rows.where(tuple_(_c.created_at, _c.id) < place)
        return _part(rows, ("created_at", "id"), descending=True)

    page = Page(limit)
    page.fill(db, behind, loader.weight_of)
    shown = [record_of(row) for row in page.rows]
    return {
        "items": [as_read(record, now, policy) for record in shown],
        "next_cursor": cursor.encode(shown[-1].created_at, shown[-1].id) if page.more else None,
    }


def _part(rows: Select[Any], order: Sequence[str], *, descending: bool = False) -> Select[Any]:
    return part(rows.subquery(), order, _joined, descending=descending)


def _joined(rows: FromClause) -> Select[Any]:
    return SELECT.join_from(table_of(Session), rows, _c.id == rows.c.id)
