"""The built-in review: what the sessions of an owner's accounts did since the last one, and which need attention.

Sessions that reviews themselves opened are left out. An overdue session counts as expired, here as
everywhere, from the instant it was overdue.
"""

from __future__ import annotations

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
    db.execute(text(f"SET LOCAL statement_timeout = {STATEMENT_TIMEOUT_MS}"))
    until: datetime = db.execute(select(func.clock_timestamp())).scalar_one()
    before = _last(db, schedule_id)
    since = None if before is None else datetime.fromisoformat(before["until"])
    named = [account.account_id for account in over]
    subject = these.subject(owner_id, named, until, only_these=only_these)
    counts = db.execute(select(subject.c.status, func.count()).group_by(subject.c.status).order_by(subject.c.status))
    by_status = {row[0]: row[1] for row in counts}
    usage = these.usage(db, subject)
    found: dict[str, Any] = {
        "owner_id": owner_id,
        "since": None if since is None else since.isoformat(),
        "until": until.isoformat(),
        "sessions": {"total": sum(by_status.values()), "by_status": by_status},
        "since_last": _since_last(db, subject, since, until),
        "failures": these.failures(db, subject, since, until),
        "at_risk": these.at_risk(db, subject, until, ahead),
        "stale": these.stale(db, subject, until),
        "usage": usage,
        "by_account": these.by_account(db, subject, over, until + ahead),
        "accounts": len(named) if named or only_these else these.accounts(db, subject),
    }
    return {**found, "changed": None if before is None else _changed(before, found)}


def _last(db: Connection, schedule_id: str) -> dict[str, Any] | None:
    """The report of the last successful review; one of another handler is none."""
    statement = select(_e.result).where(
        _e.schedule_id == schedule_id, _e.status == "success", _e.result.has_key("since_last")
    )
    found: dict[str, Any] | None = db.execute(statement.order_by(_e.nominal_utc.desc()).limit(1)).scalar()
    return found


def _since_last(db: Connection, subject: CTE, since: datetime | None, until: datetime) -> dict[str, int]:
    def within(instant: ColumnElement[Any]) -> ColumnElement[bool]:
        return instant <= until if since is None else and_(instant > since, instant <= until)

    c = subject.c
    counted = {"created": within(c.created_at), "touched": within(c.last_activity)} | {
        status: and_(c.status == status, within(c.expired_at if status == "expired" else c.ended_at))
        for status in _ENDS
    }
    counts = select(*(func.count().filter(condition).label(name) for name, condition in counted.items()))
    broken = ("crashed", "interrupted")
    turns = {
        "crashed": _t.to_status == "crashed",
        "recovered": and_(_t.from_status.in_(broken), _t.to_status.in_(these.LIVE)),
    }
    turned = select(*(func.count().filter(condition).label(name) for name, condition in turns.items()))
    turned = turned.where(_t.session_id == c.id, within(_t.at))
    return {**db.execute(counts.select_from(subject)).one()._asdict(), **db.execute(turned).one()._asdict()}


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
