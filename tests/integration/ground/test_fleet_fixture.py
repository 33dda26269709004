"""The fixtures themselves: a real operation goes through real processes."""

from __future__ import annotations

from tests.support import RunningFleet


def test_an_operation_goes_through(fleet: RunningFleet) -> None:
    made = fleet.call("session.create", agent_id="a1", session_type="development")
    assert fleet.call("session.get", session_id=made["id"])["id"] == made["id"]
