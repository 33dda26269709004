"""Cleanup and touch at one session at the moment its time runs out (row E-05)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from sessionfleet import Handle
from sessionfleet.errors import SessionExpired
from tests.support import RunningFleet
from tests.support.ageing import leave

ROUNDS, TOGETHER = 5, 40
LEFT = (0, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.9, 1.5, 600)
"""Seconds that are left to the sessions of a round."""


def outcome(handle: Handle) -> str:
    """What a touch was told."""
    try:
        handle.result(60)
    except SessionExpired:
        return "expired"
    return "touched"


def test_cleanup_and_touch_race(fleet: RunningFleet) -> None:
    """AT-E5 [E-05]: 200 times either the touch or the expiry, never a touched session expired.

    The times left lie ever closer together towards now: wherever a touch falls, some run out beside it.
    """
    told: dict[str, str] = {}
    for _ in range(ROUNDS):
        created = [fleet.client.submit("session.create", status="active") for _ in range(TOGETHER)]
        sessions = [str(handle.result(60)["id"]) for handle in created]
        for place, session_id in enumerate(sessions):
            leave(fleet, LEFT[place % len(LEFT)], session_id)
        touches, duties = {}, []
        for place, session_id in enumerate(sessions):
            touches[session_id] = fleet.client.submit("session.touch", session_id=session_id)
            if place % 2:
                duties.append(fleet.client.submit("maintenance.cleanup_stale"))
        told |= {session_id: outcome(handle) for session_id, handle in touches.items()}
        for duty in duties:
            duty.result(60)
    fleet.call("maintenance.cleanup_stale")
    assert len(told) == ROUNDS * TOGETHER
    assert became(fleet, told) == {
        session_id: ("expired", 1) if answer == "expired" else ("active", 0) for session_id, answer in told.items()
    }
    assert set(told.values()) == {"touched", "expired"}


def became(fleet: RunningFleet, sessions: Any) -> dict[str, tuple[str, int]]:
    """Status and number of expiry events of each session, from the tables."""
    statement = text("""
        SELECT s.id, s.status,
               (SELECT count(*) FROM session_events e
                WHERE e.session_id = s.id AND e.event_name = 'session.expired')
        FROM sessions s WHERE s.id = ANY (CAST(:ids AS uuid[]))
    """)
    with fleet.engine.connect() as db:
        return {str(row[0]): (row[1], row[2]) for row in db.execute(statement, {"ids": list(sessions)})}
