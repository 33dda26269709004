"""Rows of ``owner_accounts``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import Connection, delete, func, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert

from models import OwnerAccount, table_of
from reviews.accounts import UNKNOWN_RISK, Account

_t = table_of(OwnerAccount)
_c = _t.c

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('owner_accounts:' || :owner, 0))")
_FALLING = -func.coalesce(_c.risk_score, UNKNOWN_RISK)


def lock(db: Connection, owner_id: str) -> None:
    """Changes of one owner's accounts wait for each other, so that their order is that of their commits."""
    db.execute(_LOCK, {"owner": owner_id})


def remove(db: Connection, owner_id: str, account_ids: Collection[str]) -> int:
    """Take accounts away; how many were there."""
    statement = delete(_t).where(_c.owner_id == owner_id, _c.account_id.in_(account_ids))
    return db.execute(statement).rowcount


def put(db: Connection, owner_id: str, risks: Mapping[str, float | None], now: datetime) -> tuple[int, int]:
    """Set accounts to risks; how many are new, and how many have another risk than before."""
    if not risks:
        return 0, 0
    known = select(_c.account_id, _c.risk_score).where(_c.owner_id == owner_id, _c.account_id.in_(risks.keys()))
    before: dict[str, float | None] = {row.account_id: row.risk_score for row in db.execute(known)}
    rows = [
        {"owner_id": owner_id, "account_id": one, "risk_score": risk, "assigned_at": now, "updated_at": now}
        for one, risk in risks.items()
        if one not in before or before[one] != risk
    ]
    if rows:
        given = insert(_t).values(rows)
        changes = {"risk_score": given.excluded.risk_score, "updated_at": now}
        db.execute(given.on_conflict_do_update(index_elements=["owner_id", "account_id"], set_=changes))
    added = sum(row["account_id"] not in before for row in rows)
    return added, len(rows) - added


def count(db: Connection, owner_id: str) -> int:
    """Accounts of an owner."""
    return int(db.execute(select(func.count()).where(_c.owner_id == owner_id)).scalar_one())


def of_owner(db: Connection, owner_id: str) -> list[Account]:
    """All accounts of an owner, in the order of assignment."""
    statement = select(_c.account_id, _c.risk_score).where(_c.owner_id == owner_id).order_by(_c.position)
    return [Account(row.account_id, row.risk_score) for row in db.execute(statement)]


def page(
    db: Connection, owner_id: str, after: tuple[float, int] | None, limit: int
) -> list[tuple[Account, datetime, int]]:
    """(account, assigned at, position) in the order of a review, those after (risk, position)."""
    statement = select(*_c).where(_c.owner_id == owner_id)
    if after is not None:
        statement = statement.where(tuple_(_FALLING, _c.position) > (-after[0], after[1]))
    rows = db.execute(statement.order_by(_FALLING, _c.position).limit(limit))
    return [(Account(row.account_id, row.risk_score), row.assigned_at, row.position) for row in rows]
