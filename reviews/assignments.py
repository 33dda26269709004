"""schedule.assign and schedule.assignments (row H-15)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from reviews import cursor as cursors
from reviews.store import accounts
from sessionfleet.errors import ValidationFailed
from sessionfleet.messages import schedule_accounts as m


def assign(db: Connection, command: m.AssignAccounts, now: datetime) -> dict[str, Any]:
    """Remove, then set; ``changed`` is false when all was so already. Raises ValidationFailed with nothing
    stored when the owner would have more than MAX_ACCOUNTS."""
    owner_id = command.owner_id
    accounts.lock(db, owner_id)
    removed = accounts.remove(db, owner_id, command.remove) if command.remove else 0
    risks = {one.account_id: one.risk_score for one in command.accounts}
    added, updated = accounts.put(db, owner_id, risks, now)
    total = accounts.count(db, owner_id)
    if total > m.MAX_ACCOUNTS:
        raise ValidationFailed.of(
            "accounts", f"the owner would have {total:,}, which is more than {m.MAX_ACCOUNTS:,}"
        )
    return {
        "owner_id": owner_id,
        "changed": bool(added or updated or removed),
        "added": added,
        "updated": updated,
        "removed": removed,
        "total": total,
    }


def page(db: Connection, command: m.ListAssignments) -> dict[str, Any]:
    """Accounts of an owner in the order of a review."""
    after = None if command.cursor is None else cursors.decode_rank(command.cursor)
    rows = accounts.page(db, command.owner_id, after, command.limit + 1)
    last = rows[command.limit - 1] if len(rows) > command.limit else None
    return {
        "items": [
            {**account.shown(), "assigned_at": assigned_at.isoformat()}
            for account, assigned_at, _ in rows[: command.limit]
        ],
        "total": accounts.count(db, command.owner_id),
        "next_cursor": None if last is None else cursors.encode_rank(last[0].risk, last[2]),
    }
