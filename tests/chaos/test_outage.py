"""Redis gone for some seconds, callers with and without a buffer; ``python -m tests.chaos.outage`` takes a minute."""

from __future__ import annotations

from tests.chaos.outage import ACCEPT, RESUME, SLACK, SUBMIT, outage
from tests.support.private import private_fleets


def test_an_outage_of_redis_keeps_nobody_and_loses_nothing() -> None:
    """B-12 [T6]: a buffer takes messages at once, a call without one is refused in time, all happen once, and soon
    after the outage; the worker does not fill its log meanwhile."""
    with private_fleets() as make:
        fleet = make(sessions=1, relay=0)
        found = outage(fleet, seconds=8, rate=20)
        told = fleet.processes[0].log_text().count("Cannot connect")
    assert told == 1
    assert (found["lost"], found["doubled"], found["unsent"]) == (0, 0, 0), found
    assert found["refused"] > 0, found
    assert found["sent"] > 8 * 20, found
    assert found["buffered_p99_ms"] < 10 * ACCEPT * 1000, found
    assert found["plain_max_ms"] < (SUBMIT + 4 * SLACK) * 1000, found
    assert found["resumed_s"] < RESUME + 3 * SLACK, found
    assert found["drained_s"] < RESUME + 6 * SLACK, found
