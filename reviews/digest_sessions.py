"""The sessions a review is about, and its lists of them (row H-14)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    any_,
    case,
    func,
    literal,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy.dialects import postgresql as pg

from models import Session, table_of
from reviews.accounts import Account

SHOWN = 20
"""Sessions of one list; its ``count`` is of all."""

ACCOUNTS_SHOWN = 50
COUNTERS = 50
"""Names of usage counters, the first in alphabetical order."""

BUSY = ("initializing", "active", "idle", "waiting_input")
LIVE = (*BUSY, "paused")
OPEN = (*LIVE, "interrupted", "crashed")

_s = table_of(Session).c
_KEPT = ("id", "external_id", "account_ids", "created_at", "last_activity", "expires_at", "ended_at")


def subject(owner_id: str, named: Sequence[str], until: datetime, *, only_these: bool) -> CTE:
    """The sessions, each with the status it reads as and the instant it expired."""
    overdue = and_(_s.status.in_(OPEN), _s.expires_at <= until)
    by_review = and_(_s.session_type.in_(("scheduled", "on_demand")), _s.metadata.has_key("execution_id"))
    about = _s.account_ids.overlap(literal(list(named), pg.ARRAY(pg.TEXT)))
    return (
        select(
            *(_s[name] for name in _KEPT),
            *(_s[name] for name in ("metrics", "error_message", "timeout_seconds")),
            case((overdue, "expired"), else_=_s.status).label("status"),
            # A duty ends an overdue session later than it was overdue; its review must not see it twice.
            case((_s.status == "expired", func.least(_s.ended_at, _s.expires_at)), (overdue, _s.expires_at)).label(
                "expired_at"
            ),
        )
        .where(about if only_these else or_(_s.owner_id == owner_id, about) if named else _s.owner_id == owner_id)
        .where(_s.deleted_at.is_(None), not_(by_review))
        .cte("subject")
    )


def accounts(db: Connection, of: CTE) -> int:
    """How many different accounts the sessions name."""
    each = select(func.unnest(of.c.account_ids).label("account")).subquery()
    return int(db.execute(select(func.count(each.c.account.distinct()))).scalar_one())


def is_at_risk(of: CTE, until: datetime, ahead: timedelta) -> ColumnElement[bool]:
    """Open, with a deadline within ``ahead``."""
    return and_(of.c.status.in_(OPEN), of.c.expires_at <= until + ahead)


def is_stale(of: CTE, until: datetime) -> ColumnElement[bool]:
    """Live and not paused, silent for more than half of its idle time."""
    half = func.make_interval(0, 0, 0, 0, 0, 0, of.c.timeout_seconds / 2.0)
    return and_(of.c.status.in_(BUSY), of.c.last_activity + half < until)


def at_risk(db: Connection, of: CTE, until: datetime, ahead: timedelta, count: int) -> dict[str, Any]:
    """Open sessions near their deadline, nearest first."""
    return _listed(db, select(of).where(is_at_risk(of, until, ahead)).order_by(of.c.expires_at), until, count)


def stale(db: Connection, of: CTE, until: datetime, count: int) -> dict[str, Any]:
    """Live sessions that have been silent for long, longest first."""
    return _listed(db, select(of).where(is_stale(of, until)).order_by(of.c.last_activity), until, count)


def failures(db: Connection, of: CTE, since: datetime | None, until: datetime) -> list[dict[str, Any]]:
    """The latest sessions that failed since, with their errors."""
    c = of.c
    failed = select(of).where(c.status == "failed", c.ended_at <= until)
    if since is not None:
        failed = failed.where(c.ended_at > since)
    rows = db.execute(failed.order_by(c.ended_at.desc()).limit(SHOWN))
    return [
        {
            "id": str(row.id),
            "external_id": row.external_id,
            "ended_at": row.ended_at.isoformat(),
            "error": (row.error_message or "")[:200],
        }
        for row in rows
    ]


def usage(db: Connection, of: CTE) -> dict[str, float]:
    """Sums of the numbers in the sessions' metrics, such as tokens and cost, by name."""
    each = func.jsonb_each(of.c.metrics).table_valued("key", "value").lateral("each")
    number = func.jsonb_typeof(each.c.value) == "number"
    total = func.sum(each.c.value.op("#>>")(literal([], pg.ARRAY(pg.TEXT))).cast(pg.NUMERIC))
    statement = select(each.c.key, total).select_from(of.join(each, true())).where(number).group_by(each.c.key)
    return {row[0]: _number(row[1]) for row in db.execute(statement.order_by(each.c.key).limit(COUNTERS))}


def by_account(db: Connection, of: CTE, over: Sequence[Account], before: datetime) -> list[dict[str, Any]]:
    """What the sessions of each of the first accounts do, in the order of the run."""
    first = over[:ACCOUNTS_SHOWN]
    if not first:
        return []
    c = of.c
    each = select(func.unnest(c.account_ids).label("account"), c.status, c.expires_at).subquery()
    live = each.c.status.in_(OPEN)
    counted = {
        "sessions": func.count(),
        "open": func.count().filter(live),
        "failed": func.count().filter(each.c.status == "failed"),
        "crashed": func.count().filter(each.c.status == "crashed"),
        "at_risk": func.count().filter(live, each.c.expires_at <= before),
    }
    names = literal([account.account_id for account in first], pg.ARRAY(pg.TEXT))
    statement = select(each.c.account, *(count.label(name) for name, count in counted.items()))
    rows = db.execute(statement.where(each.c.account == any_(names)).group_by(each.c.account))
    found = {row.account: {name: getattr(row, name) for name in counted} for row in rows}
    nothing = dict.fromkeys(counted, 0)
    return [{**account.shown(), **found.get(account.account_id, nothing)} for account in first]


def _listed(db: Connection, statement: Select[Any], until: datetime, count: int) -> dict[str, Any]:
    rows = db.execute(statement.limit(SHOWN)).all() if count else []
    return {"count": count, "items": [_shown(row, until) for row in rows]}


def _shown(row: Row[Any], until: datetime) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "external_id": row.external_id,
        "status": row.status,
        "last_activity": row.last_activity.isoformat(),
        "expires_at": None if row.expires_at is None else row.expires_at.isoformat(),
        "seconds_left": None if row.expires_at is None else round((row.expires_at - until).total_seconds(), 3),
    }


def _number(value: Any) -> float:
    return int(value) if value == value.to_integral_value() else float(value)
