"""Writing settled changes: rows, events, transitions, output, audit and stored answers together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import itemgetter
from uuid import UUID

from sqlalchemy import Connection, Table, delete, or_, select, tuple_

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
from sessions.store import statements

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


def write(
    db: Connection,
    changes: Sequence[Settled],
    answers: Sequence[Row],
    policy: Policy,
    now: datetime,
    *,
    commit: bool = False,
) -> None:
    """All rows of ``changes`` and the stored answers in one statement, whatever their number. ``commit``: COMMIT may
    go with it, if it is the last one (:mod:`sessions.store.transaction`).

    The rows of ``sessions`` were locked by the loader, which has also removed what expired under these keys. Raises
    IntegrityError for a create that lost a race for its id and for a key that another transaction stored an answer
    under; the caller rolls back and runs again.
    """
    created = [change.columns for change in changes if change.insert]
    updates = _updates([change for change in changes if change.columns and not change.insert])
    if created and updates:  # a deletion frees the external id that another session may be created with
        _execute(db, updates)
        updates = []
    parts = [
        *updates,
        _inserts(_sessions, created),
        _inserts(_events, [row for change in changes for row in change.events]),
        _inserts(_transitions, [row for change in changes for row in change.transitions]),
        _inserts(_output, [row for change in changes for row in change.output]),
        _inserts(_audit, [row for change in changes for row in change.audit]),
        _answers(answers, now, policy.idempotency_life),
    ]
    removed = [change for change in changes if change.removed is not None]
    trimmed = [change for change in changes if change.removed is None and _is_due(change)]
    _execute(db, [part for part in parts if part.rows], commit=commit and not removed and not trimmed)
    for change in removed:
        _remove(db, change)
    for change in trimmed:
        _trim(db, change, policy)


def store_answers(db: Connection, rows: Sequence[Row], now: datetime, life: timedelta) -> None:
    """Keep answers under their keys without any other change; raises as :func:`write`."""
    if rows:
        _execute(db, [_answers(rows, now, life)])


@dataclass(frozen=True, slots=True)
class _Part:
    """One kind of rows of one table: ``sql`` of columns and number of the first parameter, and the rows."""

    sql: Callable[[Table, tuple[str, ...], int], str]
    table: Table
    rows: Sequence[Row]
    by_id: bool = False
    """The ids follow the rows once more, as :func:`statements.update` wants them."""

    def text(self, parameter: int) -> str:
        return self.sql(self.table, tuple(self.rows[0]), parameter)

    def types(self) -> list[str]:
        return statements.types(self.table, tuple(self.rows[0])) + ["uuid[]"] * self.by_id

    def parameters(self) -> list[str]:
        ids = [statements.array(row["id"] for row in self.rows)] if self.by_id else []
        return statements.parameters(self.table, self.rows) + ids


def _execute(db: Connection, parts: Sequence[_Part], *, commit: bool = False) -> None:
    """The parts as one statement, the last one as its body. ``commit``: see :func:`sessions.store.statements.run`."""
    if not parts:
        return
    texts, types, values = [], [], []  # type: list[str], list[str], list[str]
    for part in parts:
        texts.append(part.text(len(values) + 1))
        types += part.types()
        values += part.parameters()
    before = ", ".join(f"part_{number} AS ({text})" for number, text in enumerate(texts[:-1], start=1))
    sql = f"WITH {before} {texts[-1]}" if before else texts[-1]
    statements.run(db, sql, types, values, commit=commit)


def _inserts(table: Table, rows: Sequence[Row]) -> _Part:
    return _Part(statements.insert, table, rows)


def _updates(changes: Sequence[Settled]) -> list[_Part]:
    """One part per set of changed columns, many rows each."""
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for change in changes:
        groups[tuple(change.columns)].append({"id": change.record.id, **change.columns})
    return [_Part(statements.update, _sessions, groups[names], by_id=True) for names in sorted(groups)]


def _answers(rows: Sequence[Row], now: datetime, life: timedelta) -> _Part:
    """In key order, so that two transactions do not wait for each other."""
    stamped = [{**row, "created_at": now, "expires_at": now + life} for row in sorted(rows, key=itemgetter("key"))]
    return _inserts(_keys, stamped)


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


def _is_due(change: Settled) -> bool:
    """Whether the session has written so much output since the last time that old chunks go."""
    return bool(change.output) and change.output[-1]["chunk_no"] % TRIM_EVERY < len(change.output)


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
