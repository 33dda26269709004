"""The built-in review: what the sessions of an owner's accounts did since the last one, and which need attention.

Sessions that reviews themselves opened are left out. An overdue session counts as expired, here as
everywhere, from the instant it was overdue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import CTE, ColumnElement, Connection, and_, func, select, text

from models import ScheduleExecution, SessionTransition, table_of
from reviews import digest_sessions as these
from reviews.accounts import Account

STATEMENT_TIMEOUT_MS = 5000
"""All statements of a review together are shorter than the lease of its run."""

_ENDS = ("completed", "terminated", "failed", "expired")
_SINCE = ("created", "touched", *_ENDS)
_TURNS = ("crashed", "recovered")
_BEGIN = text("SELECT clock_timestamp() FROM set_config('statement_timeout', :timeout, true)").bindparams(
    timeout=str(STATEMENT_TIMEOUT_MS)
)
_e = table_of(ScheduleExecution).c
_t = table_of(SessionTransition).c


def digest(
    db: Connection,
    schedule_id: str,
    owner_id: str,
    over: Sequence[Account],
    *,
    only_these: bool,
    ahead: timedelta,
) -> dict[str, Any]:
    """The report, JSON types only, read in the snapshot of ``db``'s transaction.

    It is about the sessions that name one of the accounts ``over`` and, unless ``only_these``, those of the
    owner. ``since`` is where the last successful review of the schedule ended (null: from the beginning), so
    no change is counted twice. ``at_risk`` are live sessions whose deadline lies within ``ahead``. A change
    that commits in the very moment of a review, with an instant before it, may be missed by ``since_last``,
    never by ``sessions``.
    """
    until: datetime = db.execute(_BEGIN).scalar_one()
    before = _last(db, schedule_id)
    since = None if before is None else datetime.fromisoformat(before["until"])
    named = [account.account_id for account in over]
    subject = these.subject(owner_id, named, until, only_these=only_these)
    by_status, counted = _overview(db, subject, since, until, ahead)
    found: dict[str, Any] = {
        "owner_id": owner_id,
        "since": None if since is None else since.isoformat(),
        "until": until.isoformat(),
        "sessions": {"total": sum(by_status.values()), "by_status": by_status},
        "since_last": {
            **{name: counted[name] for name in _SINCE},
            **(_turns(db, subject, since, until) if by_status else dict.fromkeys(_TURNS, 0)),
        },
        "failures": these.failures(db, subject, since, until) if counted["failed"] else [],
        "at_risk": these.at_risk(db, subject, until, ahead, counted["at_risk"]),
        "stale": these.stale(db, subject, until, counted["stale"]),
        "usage": these.usage(db, subject) if by_status else {},
        "by_account": these.by_account(db, subject, over, until + ahead),
        "accounts": len(named) if named or only_these else these.accounts(db, subject) if by_status else 0,
    }
    return {**found, "changed": None if before is None else _changed(before, found)}


def _last(db: Connection, schedule_id: str) -> dict[str, Any] | None:
    """The report of the last successful review; one of another handler is none."""
    statement = select(_e.result).where(
        _e.schedule_id == schedule_id, _e.status == "success", _e.result.has_key("since_last")
    )
    found: dict[str, Any] | None = db.execute(statement.order_by(_e.nominal_utc.desc()).limit(1)).scalar()
    return found


def _overview(
    db: Connection, subject: CTE, since: datetime | None, until: datetime, ahead: timedelta
) -> tuple[dict[str, int], Counter[str]]:
    """Sessions by status; and how many did what since, or need attention."""
    c = subject.c
    counted = {
        "created": _within(c.created_at, since, until),
        "touched": _within(c.last_activity, since, until),
        "at_risk": these.is_at_risk(subject, until, ahead),
        "stale": these.is_stale(subject, until),
        **{
            status: and_(
                c.status == status, _within(c.expired_at if status == "expired" else c.ended_at, since, until)
            )
            for status in _ENDS
        },
    }
    counts = (func.count().filter(condition).label(name) for name, condition in counted.items())
    statement = select(c.status, func.count().label("all"), *counts).group_by(c.status).order_by(c.status)
    rows = db.execute(statement).all()
    sums = Counter({name: sum(getattr(row, name) for row in rows) for name in counted})
    return {row.status: row.all for row in rows}, sums


def _turns(db: Connection, subject: CTE, since: datetime | None, until: datetime) -> dict[str, int]:
    broken = ("crashed", "interrupted")
    turns = {
        "crashed": _t.to_status == "crashed",
        "recovered": and_(_t.from_status.in_(broken), _t.to_status.in_(these.LIVE)),
    }
    turned = select(*(func.count().filter(condition).label(name) for name, condition in turns.items()))
    return db.execute(turned.where(_t.session_id == subject.c.id, _within(_t.at, since, until))).one()._asdict()


def _within(instant: ColumnElement[Any], since: datetime | None, until: datetime) -> ColumnElement[bool]:
    return instant <= until if since is None else and_(instant > since, instant <= until)


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What is more (or, below 0, less) than in the report before; what stayed as it was is left out."""
    statuses = {
        status: now["sessions"]["by_status"].get(status, 0) - before["sessions"]["by_status"].get(status, 0)
        for status in {**before["sessions"]["by_status"], **now["sessions"]["by_status"]}
    }
    counters = {
        name: now["usage"].get(name, 0) - before.get("usage", {}).get(name, 0)
        for name in {**before.get("usage", {}), **now["usage"]}
    }
    lists = {name: now[name]["count"] - before[name]["count"] for name in ("at_risk", "stale") if name in before}
    changes = {
        "sessions": {"total": now["sessions"]["total"] - before["sessions"]["total"], **statuses},
        "usage": counters,
        "attention": lists,
    }
    return {part: {name: by for name, by in sorted(values.items()) if by} for part, values in changes.items()}
