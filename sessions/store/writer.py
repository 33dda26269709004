"""Writing settled changes: rows, events, transitions, output, audit and stored answers together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, Table, bindparam, delete, insert, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as pg_insert

from models import (
    AuditEvent,
    IdempotencyKey,
    RelayCursor,
    Session,
    SessionEvent,
    SessionOutput,
    SessionTransition,
    table_of,
)
from sessions.policy import Policy
from sessions.settle import Row, Settled

TRIM_EVERY = 64
"""Output beyond the buffer is removed each so many chunks; reads never show it (C-03)."""


_sessions = table_of(Session)
_events = table_of(SessionEvent)
_audit = table_of(AuditEvent)
_transitions = table_of(SessionTransition)
_output = table_of(SessionOutput)
_keys = table_of(IdempotencyKey)
_cursors = table_of(RelayCursor)


class KeyTaken(Exception):
    """Another transaction stored an answer under the same key first: run again, it will replay."""


def write(db: Connection, changes: Sequence[Settled], policy: Policy) -> None:
    """All rows of ``changes``, in as few statements as there are kinds of rows.

    The rows of ``sessions`` were locked by the loader. Raises IntegrityError for a create that lost
    a race for its id; the caller rolls back and runs again.
    """
    # Updates first: a deletion frees the external id that another session may be created with.
    _update(db, [change for change in changes if change.columns and not change.insert])
    _insert(db, _sessions, [change.columns for change in changes if change.insert])
    _insert(db, _events, [row for change in changes for row in change.events])
    _insert(db, _transitions, [row for change in changes for row in change.transitions])
    _insert(db, _output, [row for change in changes for row in change.output])
    _insert(db, _audit, [row for change in changes for row in change.audit])
    for change in changes:
        if change.removed is not None:
            _remove(db, change)
        elif change.output and change.output[-1]["chunk_no"] % TRIM_EVERY < len(change.output):
            _trim(db, change, policy)


def store_answers(db: Connection, rows: Sequence[Row], now: datetime, life: timedelta) -> None:
    """Keep the answers under their keys, in key order; raises :class:`KeyTaken` when a key that
    has not expired got there first."""
    if not rows:
        return
    values = [
        {**row, "created_at": now, "expires_at": now + life} for row in sorted(rows, key=lambda row: row["key"])
    ]
    statement = pg_insert(_keys)
    statement = statement.on_conflict_do_update(
        index_elements=["key"],
        set_={name: statement.excluded[name] for name in _keys.c.keys() if name != "key"},  # noqa: SIM118
        where=_keys.c.expires_at <= statement.excluded.created_at,
    )
    kept = db.execute(statement.returning(_keys.c.key), values).all()
    if len(kept) != len(values):
        raise KeyTaken


def _insert(db: Connection, table: Table, rows: list[Row]) -> None:
    if rows:
        db.execute(insert(table), rows)


def _update(db: Connection, changes: list[Settled]) -> None:
    """One statement per set of changed columns, many rows each."""
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for change in changes:
        row = {f"new_{name}": value for name, value in change.columns.items()}
        groups[tuple(change.columns)].append({"row_id": change.record.id, **row})
    for names, rows in groups.items():
        statement = update(_sessions).where(_sessions.c.id == bindparam("row_id"))
        db.execute(statement.values({name: bindparam(f"new_{name}") for name in names}), rows)


def _remove(db: Connection, change: Settled) -> None:
    """Delete what hangs on a session. Events the relay has not passed yet stay until it has, so no
    subscriber misses one; the purge of tombstones takes them."""
    id_: UUID | None = change.removed
    db.execute(delete(_output).where(_output.c.session_id == id_))
    db.execute(delete(_transitions).where(_transitions.c.session_id == id_))
    passed = select(_cursors.c.xid, _cursors.c.last_id).limit(1)
    db.execute(
        delete(_events).where(
            _events.c.session_id == id_,
            _events.c.seq < change.record.last_seq,
            tuple_(_events.c.xid, _events.c.id) <= passed.scalar_subquery(),
        )
    )


def _trim(db: Connection, change: Settled, policy: Policy) -> None:
    record = change.record
    db.execute(
        delete(_output).where(
            _output.c.session_id == record.id,
            _output.c.chunk_no < record.last_chunk,
            or_(
                _output.c.start_lines < record.output_lines - policy.output_buffer_lines,
                _output.c.start_bytes < record.output_bytes - policy.output_max_bytes,
            ),
        )
    )
