"""Show 3 in small (D-07, D-08, D-10, D-15): relay and Redis die under load, and no subscriber misses an event."""

from __future__ import annotations

from tests.chaos.fan_out import Plan, lines, play


def test_every_subscriber_ends_with_every_event_once_and_in_order() -> None:
    """D-15: 20 subscribers of 300 events/s, 5 of them absent now and then; the command is for longer runs."""
    found = play(Plan(seconds=12, kills=5, restarts=3, flushes=1, seed=3))
    assert found.passed, "\n".join(lines(found))
    assert found.faults == {"relay killed": 5, "Redis killed": 3, "Redis emptied": 1}
    assert found.events > 1000
    assert found.visits > found.subscribers
