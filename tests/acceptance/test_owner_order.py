"""In which order the due work of owners runs, through real workers (AT-H9; H-16, E-14)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

from tests.support import RunningFleet
from tests.support.scheduling import create, dispatch, ledger, rewind, run, waiting

HELD = {"handler": "tests.held", "handler_queue": "tests-held", "interval_minutes": 60}

WAITED = """
    UPDATE schedule_executions SET not_before = not_before - make_interval(secs => :seconds) WHERE schedule_id = :id
"""


def due(fleet: RunningFleet, owner: str, priorities: Sequence[str]) -> list[dict[str, Any]]:
    """Schedules of one owner that are due, the first longest; settled in one tick."""
    made = [create(fleet, owner_id=owner, priority=priority, **HELD) for priority in priorities]
    for n, schedule in enumerate(made):
        rewind(fleet, schedule, 4 - n / 10)
    dispatch(fleet)
    return made


def going(fleet: RunningFleet, schedules: Sequence[dict[str, Any]]) -> list[int]:
    """Which of them are under way."""
    return [n for n, one in enumerate(schedules) if [row.status for row in ledger(fleet, one)] == ["running"]]


def end(fleet: RunningFleet, schedule: dict[str, Any]) -> None:
    [row] = ledger(fleet, schedule)
    assert fleet.call("schedule.end_run", execution_id=row.execution_id, attempt=1, status="success")["accepted"]


def in_turn(fleet: RunningFleet, schedules: Sequence[dict[str, Any]], count: int) -> list[int]:
    """The first ``count`` to run when each is ended before the next; never two at a time."""
    order: list[int] = []
    for _ in range(count):
        waiting(lambda: len(going(fleet, schedules)) == 1)
        [one] = going(fleet, schedules)
        order.append(one)
        end(fleet, schedules[one])
    return order


def test_an_owner_s_due_work_runs_in_priority_order_equal_ones_first_in_first_out(fleet: RunningFleet) -> None:
    """AT-H9: critical, high, medium, low are what risks 90, 70, 50, 10 stand for."""
    owner = f"order-{uuid4().hex[:8]}"
    schedules = due(fleet, owner, ["medium", "medium"])  # one of them is under way, whatever comes
    waiting(lambda: len(going(fleet, schedules)) == 1)
    assert going(fleet, schedules) == [0]
    schedules += due(fleet, owner, ["low", "high", "critical", "medium", "high", "critical"])
    assert going(fleet, schedules) == [0]
    assert in_turn(fleet, schedules, 8) == [0, 4, 7, 3, 6, 1, 5, 2]


def test_two_owners_run_in_parallel(fleet: RunningFleet) -> None:
    """AT-H9."""
    owners = [f"parallel-{uuid4().hex[:8]}" for _ in range(3)]
    schedules = [due(fleet, owner, ["medium", "medium"]) for owner in owners]
    waiting(lambda: all(going(fleet, one) == [0] for one in schedules))
    for one in schedules:
        assert in_turn(fleet, one, 2) == [0, 1]


def test_work_that_waits_rises_so_that_low_never_starves(fleet: RunningFleet) -> None:
    """E-14: one step for each minute of waiting."""
    owner = f"ageing-{uuid4().hex[:8]}"
    schedules = due(fleet, owner, ["medium"])
    waiting(lambda: going(fleet, schedules) == [0])
    schedules += due(fleet, owner, ["low", "low", "critical", "high"])
    for number, seconds in ((1, 185), (2, 65)):
        run(fleet, WAITED, id=schedules[number]["schedule_id"], seconds=seconds)
    assert in_turn(fleet, schedules, 5) == [0, 1, 3, 4, 2]


def test_a_triggered_run_waits_for_nobody(fleet: RunningFleet) -> None:
    """H-11: a person waits for it."""
    owner = f"trigger-{uuid4().hex[:8]}"
    schedules = due(fleet, owner, ["medium"])
    waiting(lambda: going(fleet, schedules) == [0])
    other = create(fleet, owner_id=owner, **HELD)
    fleet.call("schedule.trigger", schedule_id=other["schedule_id"])
    waiting(lambda: going(fleet, [*schedules, other]) == [0, 1])
