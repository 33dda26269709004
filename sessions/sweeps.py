"""Which sessions a duty has to look at (rows E-04, E-05), and what time has made superfluous."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, delete, false, func, insert, or_, select, update

from models import IdempotencyKey, Session, SessionCount, SessionEvent, SessionOutput, SessionTransition, table_of
from sessionfleet.words import LIVE

BATCH = 500
"""Rows a duty takes in one transaction."""

CONTEXTS = 100
"""Sessions whose contexts are indexed in one transaction, at most; their writers wait meanwhile, milliseconds."""

QUIET = timedelta(minutes=1)
"""A session that has not been written for so long has a context that stays for a while."""

CONTEXT_BYTES = 65_536
"""Stored bytes of their contexts beyond the first one's, at most: compressed as they may be, a few such contexts take
as long as a statement may."""

TOMBSTONE_LIFE = timedelta(days=30)

_c = table_of(Session).c

# Due is what the clock says at the start of the statement: clock_timestamp() may change within it, so no index can be
# asked for it.


def to_warn(db: Connection, limit: int = BATCH) -> list[UUID]:
    """Live sessions whose check date has come and that are not overdue, locked; rows another
    transaction holds are passed over (SKIP LOCKED) and come up again."""
    return _take(db, limit, _c.status.in_(sorted(LIVE)), _c.expires_at > func.statement_timestamp())


def to_expire(db: Connection, limit: int = BATCH) -> list[UUID]:
    """Overdue sessions that have not ended, locked; rows another transaction holds are passed over."""
    return _take(db, limit, _c.expires_at <= func.statement_timestamp())


def past_longest_life(db: Connection, seconds: int, limit: int = BATCH) -> list[UUID]:
    """Sessions that have not ended and are older than ``seconds``, whatever their deadline says,
    locked as in :func:`to_expire`: it may have been written under other settings (E-08)."""
    born_before = func.statement_timestamp() - timedelta(seconds=seconds)
    return _take(db, limit, _c.created_at <= born_before, checked=False)


def _take(db: Connection, limit: int, *conditions: Any, checked: bool = True) -> list[UUID]:
    due = _c.next_check_at <= func.statement_timestamp() if checked else _c.next_check_at.is_not(None)
    statement = (
        select(_c.id)
        .where(due, *conditions)
        .order_by(_c.next_check_at)
        .limit(limit)
        .with_for_update(skip_locked=True, key_share=True)
    )
    return list(db.execute(statement).scalars())


def of_user(db: Connection, user_id: str, limit: int = BATCH) -> list[UUID]:
    """Sessions of a user that are not deleted, in id order."""
    statement = select(_c.id).where(_c.user_id == user_id, _c.deleted_at.is_(None)).order_by(_c.id).limit(limit)
    return list(db.execute(statement).scalars())


class Seen(NamedTuple):
    """A session whose context is not indexed yet, and whether it is now."""

    id: UUID
    indexed: bool


def index_contexts(db: Connection, after: UUID | None, limit: int = CONTEXTS) -> list[Seen]:
    """Bring the index of contexts up to date for the next sessions behind ``after``, in id order, whose context has
    changed; none at the end. Rows another transaction holds are passed over and stay pending, and so do contexts that
    have changed since the last look at them: they are compared one by one anyway within a moment, and an entry costs
    one in every index of the row, where a look is a HOT update (Q-06)."""
    sessions = table_of(Session)
    wanted = [_c.context_pending] if after is None else [_c.context_pending, _c.id > after]
    quiet = or_(_c.updated_at <= func.now() - QUIET, func.coalesce(_c.context_seen == _c.context_version, false()))
    due = (
        select(_c.id, quiet, func.pg_column_size(_c.context))
        .where(*wanted)
        .order_by(_c.id)
        .limit(limit)
        .with_for_update(skip_locked=True, key_share=True)
    )
    seen: list[Seen] = []
    left = CONTEXT_BYTES
    for id_, stays, size in db.execute(due):
        left -= size if seen and stays else 0
        if left < 0:
            break
        seen.append(Seen(id_, stays))
    if ids := [one.id for one in seen if one.indexed]:
        values = {"context_keys": func.containment_keys(_c.context), "context_pending": False}
        db.execute(update(sessions).values(values).where(_c.id.in_(ids)))
    if ids := [one.id for one in seen if not one.indexed]:
        db.execute(update(sessions).values(context_seen=_c.context_version).where(_c.id.in_(ids)))
    return seen


def sum_counts(db: Connection) -> int:
    """Make one row of all rows of ``session_counts`` of a status; how many there were (Q-03)."""
    counts = table_of(SessionCount)
    gone = delete(counts).returning(counts.c.status, counts.c.archived, counts.c.change).cte()
    total = func.sum(gone.c.change)
    sums = select(gone.c.status, gone.c.archived, total).group_by(gone.c.status, gone.c.archived).having(total != 0)
    many = select(func.count()).select_from(gone).scalar_subquery()
    written = insert(counts).from_select(["status", "archived", "change"], sums).returning(many)
    return int(db.execute(written).scalars().first() or 0)


def purge_answers(db: Connection, limit: int = BATCH) -> int:
    """Remove stored answers past their life; returns how many."""
    keys = table_of(IdempotencyKey)
    old = select(keys.c.key).where(keys.c.expires_at <= func.now()).limit(limit)
    return db.execute(delete(keys).where(keys.c.key.in_(old))).rowcount


def purge_tombstones(db: Connection, limit: int = BATCH) -> int:
    """Remove tombstones past their 30 days with what is left of their events; returns how many."""
    old = list(
        db.execute(
            select(_c.id)
            .where(_c.deleted_at <= func.now() - TOMBSTONE_LIFE)
            .limit(limit)
            .with_for_update(skip_locked=True)
        ).scalars()
    )
    if old:
        for model in (SessionEvent, SessionOutput, SessionTransition):
            rows = table_of(model)
            db.execute(delete(rows).where(rows.c.session_id.in_(old)))
        sessions = table_of(Session)
        db.execute(delete(sessions).where(sessions.c.id.in_(old)))
    return len(old)
