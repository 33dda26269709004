"""Age is made by moving stored instants back, never by waiting."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import text

from tests.support.running import RunningFleet

_AGE = text("""
    UPDATE sessions SET last_activity = last_activity - make_interval(secs => :seconds)
    WHERE id = ANY (CAST(:ids AS uuid[]))
""")
_LEAVE = text("""
    UPDATE sessions
    SET last_activity = last_activity - (expires_at - clock_timestamp()) + make_interval(secs => :rest)
    WHERE id = ANY (CAST(:ids AS uuid[]))
""")
_BORN = text("""
    UPDATE sessions SET created_at = created_at - make_interval(secs => :seconds)
    WHERE id = ANY (CAST(:ids AS uuid[]))
""")
_REMAINING = text("SELECT extract(epoch FROM expires_at - clock_timestamp()) FROM sessions WHERE id = :id")


def age(fleet: RunningFleet, seconds: float, *ids: str) -> None:
    """Moves the last activity of sessions back; their deadlines go along."""
    _run(fleet, _AGE, ids, seconds=seconds)


def leave(fleet: RunningFleet, rest: float, *ids: str) -> None:
    """Moves the last activity of sessions so that ``rest`` seconds are left, by the database clock."""
    _run(fleet, _LEAVE, ids, rest=rest)


def born_earlier(fleet: RunningFleet, seconds: float, *ids: str) -> None:
    """Makes sessions older without touching their activity."""
    _run(fleet, _BORN, ids, seconds=seconds)


def remaining(fleet: RunningFleet, session_id: str) -> float:
    """Seconds until the deadline in the table."""
    with fleet.engine.connect() as db:
        return float(db.execute(_REMAINING, {"id": session_id}).scalar_one())


def _run(fleet: RunningFleet, statement: object, ids: Collection[str], **values: float) -> None:
    with fleet.engine.begin() as db:
        changed = db.execute(statement, {"ids": list(ids), **values}).rowcount  # type: ignore[call-overload]
    assert changed == len(ids)
