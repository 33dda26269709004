"""What the periodic duties decide about one session (rows E-04..E-06, E-08, E-09)."""

from __future__ import annotations

import math
from typing import Any

from sessionfleet.errors import FleetError
from sessions import deadlines, lifecycle
from sessions.change import Change, Context, EventDraft
from sessions.guards import expired
from sessions.record import Record


def _acted(_: Record) -> dict[str, Any]:
    return {"acted": True}


def _looked(_: Record) -> dict[str, Any]:
    return {"acted": False}


LOOKED = Change(recheck=True, answer=_looked)
"""The duty had nothing to do here but to set the next check date."""


def warn(session: Record, command: object, ctx: Context) -> Change:
    """One ``session.timeout_warning`` for the nearest threshold reached, once per deadline.

    ``timeout_in_seconds`` is the real rest, rounded up. A session that was renewed meanwhile only
    gets its next check date.
    """
    if session.expires_at is None or session.overdue(ctx.now):
        return LOOKED
    rest = (session.expires_at - ctx.now).total_seconds()
    reached = [seconds for seconds in deadlines.thresholds_left(session, ctx.policy) if rest <= seconds]
    if not reached:
        return LOOKED
    payload = {
        "agent_id": session.agent_id,
        "status": session.status,
        "last_activity": session.last_activity.isoformat(),
        "timeout_in_seconds": math.ceil(rest),
        "threshold": min(reached),
        "expires_at": session.expires_at.isoformat(),
        "limit": deadlines.end_reason(session, ctx.policy),
    }
    return Change(
        columns={"warned_at": ctx.now, "warned_threshold": min(reached)},
        events=[EventDraft("session.timeout_warning", payload)],
        recheck=True,
        answer=_acted,
    )


def expire_overdue(session: Record, command: object, ctx: Context) -> Change:
    """Ends an overdue session as expired; one that was touched meanwhile is left alone (E-05)."""
    if not deadlines.overdue(session, ctx.now, ctx.policy):
        return LOOKED
    return _expiry(session, ctx)._replace(answer=_acted)


def refuse_overdue(session: Record, ctx: Context) -> Change:
    """What a write on an overdue session does: it expires the session and answers SESSION_EXPIRED."""
    return _expiry(session, ctx, error=expired(session))


def _expiry(session: Record, ctx: Context, error: FleetError | None = None) -> Change:
    policy = ctx.policy
    reason = deadlines.end_reason(session, policy)
    longest = policy.max_lifetime_seconds
    payload: dict[str, Any] = {
        "last_activity": session.last_activity.isoformat(),
        "timeout_threshold": longest if reason == "hard_limit" else deadlines.idle_seconds(session, policy),
    }
    change = lifecycle.moved(session, ctx, "expired", reason=reason, columns={"end_reason": reason}, payload=payload)
    # Expiry is no activity: last_activity stays what it was when the time ran out.
    return change._replace(activity=False, error=error)
