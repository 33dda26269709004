"""The built-in review: what an owner's sessions did since the last one, and which need attention.

Sessions that reviews themselves opened are left out. An overdue session counts as expired, here as
everywhere, from the instant it was overdue.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import CTE, ColumnElement, Connection, Row, and_, case, func, not_, select, text

from models import ScheduleExecution, Session, SessionTransition, table_of

AT_RISK_SHOWN = 20

STATEMENT_TIMEOUT_MS = 8000
"""All statements of a review together are shorter than the lease of its run."""

_ENDS = ("completed", "terminated", "failed", "expired")
_OPEN = ("initializing", "active", "idle", "waiting_input", "paused", "interrupted", "crashed")

_s = table_of(Session).c
_e = table_of(ScheduleExecution).c
_t = table_of(SessionTransition).c


def digest(db: Connection, schedule_id: str, owner_id: str, *, ahead: timedelta) -> dict[str, Any]:
    """The report, JSON types only, read in the snapshot of ``db``'s transaction.

    ``since`` is where the last successful review of the schedule ended (null: from the beginning), so
    no change is counted twice. ``at_risk`` are live sessions whose deadline lies within ``ahead``,
    nearest first, at most 20 of them shown. A change that commits in the very moment of a review, with
    an instant before it, may be missed by ``since_last``, never by ``sessions``.
    """
    db.execute(text(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}"))
    until: datetime = db.execute(select(func.clock_timestamp())).scalar_one()
    since = _last(db, schedule_id)
    owned = _owned(owner_id, until)
    counts = db.execute(select(owned.c.status, func.count()).group_by(owned.c.status).order_by(owned.c.status))
    by_status = {row[0]: row[1] for row in counts}
    at_risk = _at_risk(db, owned, until + ahead)
    accounts = select(func.unnest(owned.c.account_ids).label("account")).subquery()
    return {
        "owner_id": owner_id,
        "since": None if since is None else since.isoformat(),
        "until": until.isoformat(),
        "sessions": {"total": sum(by_status.values()), "by_status": by_status},
        "since_last": _since_last(db, owned, since, until),
        "at_risk": {
            "count": at_risk[0].total if at_risk else 0,
            "items": [_shown(row, until) for row in at_risk],
        },
        "accounts": db.execute(select(func.count(accounts.c.account.distinct()))).scalar_one(),
    }


def _last(db: Connection, schedule_id: str) -> datetime | None:
    until = _e.result["until"].astext
    statement = select(until).where(_e.schedule_id == schedule_id, _e.status == "success", until.is_not(None))
    found: str | None = db.execute(statement.order_by(_e.nominal_utc.desc()).limit(1)).scalar()
    return None if found is None else datetime.fromisoformat(found)


def _owned(owner_id: str, until: datetime) -> CTE:
    """The owner's sessions, each with the status it reads as and the instant it ended."""
    overdue = and_(_s.status.in_(_OPEN), _s.expires_at <= until)
    by_review = and_(_s.session_type.in_(("scheduled", "on_demand")), _s.metadata.has_key("execution_id"))
    return (
        select(
            *(_s[name] for name in ("id", "external_id", "account_ids", "created_at", "last_activity", "expires_at")),
            case((overdue, "expired"), else_=_s.status).label("status"),
            # A duty ends an overdue session later than it was overdue; its review must not see it twice.
            case((_s.status == "expired", func.least(_s.ended_at, _s.expires_at)), (overdue, _s.expires_at)).label(
                "expired_at"
            ),
            _s.ended_at,
        )
        .where(_s.owner_id == owner_id, _s.deleted_at.is_(None), not_(by_review))
        .cte("owned")
    )


def _since_last(db: Connection, owned: CTE, since: datetime | None, until: datetime) -> dict[str, int]:
    def within(instant: ColumnElement[Any]) -> ColumnElement[bool]:
        return instant <= until if since is None else and_(instant > since, instant <= until)

    o = owned.c
    counted = {"created": within(o.created_at)} | {
        status: and_(o.status == status, within(o.expired_at if status == "expired" else o.ended_at))
        for status in _ENDS
    }
    counts = select(*(func.count().filter(condition).label(name) for name, condition in counted.items()))
    crashes = select(func.count()).where(_t.session_id == o.id, _t.to_status == "crashed", within(_t.at))
    row = db.execute(counts.select_from(owned)).one()
    return {**row._asdict(), "crashed": db.execute(crashes).scalar_one()}


def _at_risk(db: Connection, owned: CTE, before: datetime) -> list[Row[Any]]:
    o = owned.c
    statement = select(owned, func.count().over().label("total")).where(o.status.in_(_OPEN), o.expires_at <= before)
    return list(db.execute(statement.order_by(o.expires_at).limit(AT_RISK_SHOWN)))


def _shown(row: Row[Any], until: datetime) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "external_id": row.external_id,
        "status": row.status,
        "last_activity": row.last_activity.isoformat(),
        "expires_at": row.expires_at.isoformat(),
        "seconds_left": round((row.expires_at - until).total_seconds(), 3),
    }
