"""The longest life of a session, and the bounds of its timeout, through real workers (rows E-01, E-08)."""

from __future__ import annotations

from typing import Any

import pytest

from sessionfleet.errors import SessionExpired, ValidationFailed
from tests.support import RunningFleet
from tests.support.ageing import age, born_earlier, remaining
from tests.support.private import PrivateFleet

LIMIT = 3600


def new(fleet: RunningFleet, **arguments: Any) -> str:
    return str(fleet.call("session.create", status="active", **arguments)["id"])


def touch(fleet: RunningFleet, session_id: str) -> None:
    fleet.call("session.touch", session_id=session_id)


def ending(fleet: RunningFleet, session_id: str) -> tuple[str, str, str, int]:
    """Status, end_reason, and what the event says of them."""
    document = fleet.call("session.get", session_id=session_id)
    [event] = fleet.call("session.get_events", session_id=session_id, types=["session.expired"])["items"]
    payload = event["payload"]
    return document["status"], document["end_reason"], payload["reason"], payload["timeout_threshold"]


def reasons_read(fleet: RunningFleet, session_id: str) -> set[str]:
    """Why the session is expired, as all reads show it."""
    fleet.cache.delete(f"sess:doc:{session_id}")
    listed = fleet.call("session.list", status="expired")["items"]
    assert [one["id"] for one in listed] == [session_id]
    [several] = fleet.call("session.get_many", session_ids=[session_id])["items"]
    attached = fleet.call("session.attach", session_id=session_id)["session"]
    held = fleet.call("session.create", external_id=listed[0]["external_id"], if_exists="return")
    shown = [*listed, several, attached, held, fleet.call("session.get", session_id=session_id)]
    assert {one["status"] for one in shown} == {"expired"}
    return {one["end_reason"] for one in shown}


def test_a_busy_session_ends_at_its_longest_life(private_fleet: PrivateFleet) -> None:
    """AT-E12, first half [E-08]: warned once for that date whatever its activity, then ended with hard_limit.

    AT-E11, last part [E-01]: outside the test environment a timeout is at least 60 s.
    """
    fleet = private_fleet(
        maintenance=1, relay=0, FLEET_ENVIRONMENT="development", FLEET_MAX_LIFETIME_SECONDS=str(LIMIT)
    )
    for seconds in (59, 604801):
        with pytest.raises(ValidationFailed, match="timeout_seconds"):
            new(fleet, timeout_seconds=seconds)
    assert new(fleet, timeout_seconds=60, external_id="short")
    fleet.call("session.terminate", session_id="short")

    busy = new(fleet)
    born_earlier(fleet, LIMIT - 280, busy)
    touch(fleet, busy)
    fleet.call("session.extend", session_id=busy, seconds=LIMIT)
    assert remaining(fleet, busy) == pytest.approx(280, abs=5)
    warned = []
    for _ in range(3):
        warned.append(fleet.call("maintenance.timeout_warnings")["warned"])
        touch(fleet, busy)
    assert warned == [1, 0, 0]
    [warning] = fleet.call("session.get_events", session_id=busy, types=["session.timeout_warning"])["items"]
    assert warning["payload"]["limit"] == "hard_limit"
    assert warning["payload"]["timeout_in_seconds"] == pytest.approx(280, abs=5)

    fresh, written = new(fleet), new(fleet)
    born_earlier(fleet, LIMIT, written)
    born_earlier(fleet, 280, busy)
    age(fleet, 280, busy)
    assert reasons_read(fleet, busy) == {"hard_limit"}
    with pytest.raises(SessionExpired):
        touch(fleet, written)
    assert fleet.call("maintenance.cleanup_stale")["expired"] == 1
    assert fleet.call("maintenance.cleanup_stale")["expired"] == 0
    for session_id in (busy, written):
        assert ending(fleet, session_id) == ("expired", "hard_limit", "hard_limit", LIMIT)
    assert fleet.call("session.get", session_id=fresh)["status"] == "active"
