"""What no tick has looked after is found, put right and told of; old slots go (H-06, H-13, N-09)."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from sessionfleet.errors import ScheduleNotFound
from tests.support import RunningFleet
from tests.support.scheduling import create, dispatch, ended, get, history, ledger, rewind, run, waiting


def scan(fleet: RunningFleet) -> dict[str, Any]:
    found: dict[str, Any] = fleet.call("schedule.scan")
    return found


def test_an_overdue_slot_a_lost_next_slot_and_an_unsent_run_are_put_right(fleet: RunningFleet) -> None:
    overdue, stopped, unsent = (create(fleet, interval_minutes=60) for _ in range(3))
    rewind(fleet, overdue, 120)
    run(fleet, "UPDATE scheduled_reviews SET next_run = NULL WHERE schedule_id = :id", id=stopped["schedule_id"])
    run(fleet, WAITS, id=unsent["schedule_id"])
    found = scan(fleet)
    assert min(found["overdue"], found["stopped"], found["unsent"]) >= 1
    assert (found["repaired"], found["slot_index"], found["duplicates"]) == (True, True, 0)
    assert abs(found["clock_skew_seconds"]) < 5, "one machine has one clock"
    assert get(fleet, stopped)["next_run"] is not None
    for schedule in (overdue, unsent):
        assert ended(fleet, schedule)["status"] == "success"


def test_a_run_nobody_hears_of_is_tried_again(fleet: RunningFleet) -> None:
    schedule = create(fleet, handler="tests.held", handler_queue="tests-held", max_retries=0)
    fleet.call("schedule.trigger", schedule_id=schedule["schedule_id"])
    waiting(lambda: ledger(fleet, schedule)[0].session_id is not None)
    late = "UPDATE schedule_executions SET lease_expires_at = now() - interval '2 minutes' WHERE schedule_id = :id"
    run(fleet, late, id=schedule["schedule_id"])
    assert scan(fleet)["lost"] >= 1
    assert ended(fleet, schedule)["status"] == "failed"


def test_old_slots_go_and_what_is_still_needed_stays(fleet: RunningFleet) -> None:
    schedule, counted, deleted = create(fleet), create(fleet, max_runs=2), create(fleet)
    for one in (schedule, counted, deleted):
        for _ in range(2):
            fleet.call("schedule.trigger", schedule_id=one["schedule_id"])
        waiting(lambda one=one: get(fleet, one)["run_count"] == 2)
        run(fleet, SKIPPED, id=one["schedule_id"])
        run(fleet, AGE, id=one["schedule_id"])
    fleet.call("schedule.delete", schedule_id=deleted["schedule_id"])
    run(
        fleet,
        "UPDATE scheduled_reviews SET deleted_at = now() - interval '91 days' WHERE schedule_id = :id",
        id=deleted["schedule_id"],
    )
    assert fleet.call("maintenance.purge_old")["schedule_slots"] >= 5
    assert [slot["status"] for slot in history(fleet, schedule)] == ["success"], "the next report needs the last"
    assert [slot["status"] for slot in history(fleet, counted)] == ["success"] * 2, "max_runs counts them"
    with pytest.raises(ScheduleNotFound):
        history(fleet, deleted)
    with fleet.engine.connect() as db:
        orphans = "SELECT count(*) FROM schedule_attempts a WHERE NOT EXISTS (SELECT 1 FROM schedule_executions e "
        assert db.execute(text(orphans + "WHERE e.execution_id = a.execution_id)")).scalar_one() == 0
    dispatch(fleet)


WAITS = """
    INSERT INTO schedule_executions (execution_id, schedule_id, kind, nominal_utc, status, priority, attempt,
        queued_at, not_before, publish_at, publishes)
    VALUES ('exec_waits_' || :id, :id, 'scheduled', date_trunc('hour', now()) - interval '2 hours', 'queued',
        'medium', 0, now(), now() - interval '2 hours', now() + interval '2 hours', 5)
"""
SKIPPED = """
    INSERT INTO schedule_executions (execution_id, schedule_id, kind, nominal_utc, status, reason, priority, attempt,
        queued_at, publishes)
    VALUES ('exec_old_' || :id, :id, 'scheduled', now() - interval '91 days', 'skipped', 'paused', 'medium', 0,
        now(), 0)
"""
AGE = """
    UPDATE schedule_executions SET queued_at = queued_at - interval '91 days' WHERE schedule_id = :id
"""
