"""Slots that come due: with their exact start, and many at once (AT-H5, AT-H7; H-06, H-07).

``benchmarks/schedule_rate.py`` measures a thousand.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

from tests.support import RunningFleet
from tests.support.scheduling import create, dispatch, get, ledger, rewind, run, waiting


def test_a_slot_of_the_coming_tick_starts_at_its_exact_time(fleet: RunningFleet) -> None:
    """H-06: it is on the ledger before its time and starts then, without another tick."""
    schedule = create(fleet, interval_minutes=60)
    rewind(fleet, schedule, -1.2)
    dispatch(fleet)
    [row] = ledger(fleet, schedule)
    assert row.queued_at < row.nominal_utc == row.not_before
    waiting(lambda: ledger(fleet, schedule)[0].status == "success")
    [row] = ledger(fleet, schedule)
    assert timedelta(0) <= row.started_at - row.nominal_utc < timedelta(seconds=10)


def test_a_message_that_comes_early_waits_for_its_time(fleet: RunningFleet) -> None:
    schedule = create(fleet, interval_minutes=60)
    rewind(fleet, schedule, -1.2)
    dispatch(fleet)
    [row] = ledger(fleet, schedule)
    fleet.call("schedule.run_review", execution_id=row.execution_id)
    waiting(lambda: ledger(fleet, schedule)[0].status == "success")
    [row] = ledger(fleet, schedule)
    assert row.started_at >= row.nominal_utc


def test_the_coming_slot_of_a_paused_or_busy_schedule_is_not_decided_before_its_time(fleet: RunningFleet) -> None:
    paused = create(fleet, enabled=False)
    busy = create(fleet, handler="tests.held", handler_queue="tests-held")
    fleet.call("schedule.trigger", schedule_id=busy["schedule_id"])
    for schedule in (paused, busy):
        rewind(fleet, schedule, -1.2)
    dispatch(fleet)
    assert (len(ledger(fleet, paused)), len(ledger(fleet, busy))) == (0, 1)


def test_sixty_slots_of_one_instant_all_run_within_a_minute(fleet: RunningFleet) -> None:
    """AT-H5 and AT-H7: sound reviews succeed."""
    name = f"at-once-{uuid4().hex[:8]}"
    schedules = [create(fleet, owner_id=f"{name}-{n % 12}", metadata={"of": name}) for n in range(60)]
    run(
        fleet,
        "UPDATE scheduled_reviews SET next_run = clock_timestamp() WHERE metadata ->> 'of' = :name",
        name=name,
    )
    dispatch(fleet)
    waiting(lambda: done(fleet, schedules) == 60, timeout=120)
    rows = [ledger(fleet, schedule)[0] for schedule in schedules]
    assert {row.status for row in rows} == {"success"}
    assert max(row.started_at - row.nominal_utc for row in rows) < timedelta(seconds=60)
    found = get(fleet, schedules[0])
    assert (found["last_status"], found["run_count"]) == ("success", 1)
    assert found["last_run"] < found["next_run"]


def done(fleet: RunningFleet, schedules: list[dict[str, Any]]) -> int:
    with fleet.engine.connect() as db:
        ids = [schedule["schedule_id"] for schedule in schedules]
        ended = "SELECT count(*) FROM schedule_executions WHERE schedule_id = ANY(%s) AND ended_at IS NOT NULL"
        return int(db.exec_driver_sql(ended, (ids,)).scalar_one())
