"""Scheduled reviews through real workers: create, change, fire, history (AT-H1, AT-H6, AT-H10)."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from sessionfleet.errors import (
    IdempotencyConflict,
    InvalidSchedule,
    PayloadTooLarge,
    ScheduleNotFound,
    ValidationFailed,
    VersionConflict,
)
from tests.support import RunningFleet
from tests.support.scheduling import create, dispatch, ended, get, history, ledger, rewind, run

EVERY_FIELD = {
    "schedule_type": "interval",
    "owner_id": "every-field",
    "account_filter": {"risk": {"min": 60}},
    "interval_minutes": 90,
    "timezone": "Asia/Dubai",
    "priority": "critical",
    "enabled": False,
    "max_retries": 7,
    "retry_delay_minutes": 11,
    "metadata": {"team": "återställning", "n": [1, None]},
}


def test_a_schedule_is_read_back_with_every_field_as_given(fleet: RunningFleet) -> None:
    created = fleet.call("schedule.create", **EVERY_FIELD)
    found = get(fleet, created)
    assert found == created
    assert {name: found[name] for name in EVERY_FIELD} == EVERY_FIELD
    assert (found["hour"], found["minute"], found["run_count"], found["version"]) == (0, 0, 0, 1)
    assert (found["last_run"], found["last_status"], found["cron_expression"]) == (None, None, None)
    assert len(found["schedule_id"]) == len("schedule_") + 12


def test_the_first_slot_lies_one_period_ahead_shown_in_utc_and_local(fleet: RunningFleet) -> None:
    created = create(fleet, interval_minutes=15, timezone="Asia/Dubai")
    next_run = datetime.fromisoformat(created["next_run"])
    assert next_run - datetime.fromisoformat(created["created_at"]) == timedelta(minutes=15)
    local = datetime.fromisoformat(created["next_run_local"])
    assert (local, local.utcoffset()) == (next_run, ZoneInfo("Asia/Dubai").utcoffset(local))


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"schedule_type": "interval"}, "interval_minutes"),
        ({"schedule_type": "interval", "interval_minutes": -5}, "interval_minutes"),
        ({"schedule_type": "interval", "interval_minutes": 5, "timezone": "Nowhere/Land"}, "timezone"),
        ({"schedule_type": "interval", "interval_minutes": 5, "cron_expression": "* * * * *"}, "cron_expression"),
        ({"schedule_type": "cron", "cron_expression": "61 * * * *"}, "cron_expression"),
        ({"schedule_type": "cron", "cron_expression": "0 0 13 * 5"}, "day_mode"),
        ({"schedule_type": "biweekly"}, "anchor_date"),
        ({"schedule_type": "one_time", "scheduled_time": "2020-01-01T09:00"}, "scheduled_time"),
        ({"schedule_type": "daily", "end_at": "2020-01-01T09:00:00Z"}, "end_at"),
        ({"schedule_type": "hourly"}, "schedule_type"),
    ],
)
def test_a_bad_schedule_names_its_field_shows_one_that_works_and_stores_nothing(
    fleet: RunningFleet, arguments: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidSchedule) as caught:
        fleet.call("schedule.create", owner_id="bad", **arguments)
    assert caught.value.details["field"] == field
    assert fleet.call("schedule.list", owner_id="bad")["items"] == []
    works = fleet.call("schedule.create", **caught.value.details["example"])
    assert works["next_run"] is not None


def test_a_raw_message_gets_the_same_error(fleet: RunningFleet) -> None:
    with pytest.raises(ValidationFailed, match="owner_id"):
        fleet.call("schedule.create", schedule_type="interval", interval_minutes=5)
    with pytest.raises(PayloadTooLarge):
        create(fleet, owner_id="big", metadata={"x": "y" * 65536})
    with pytest.raises(ScheduleNotFound):
        fleet.call("schedule.get", schedule_id="schedule_000000000000")
    with pytest.raises(ScheduleNotFound):
        fleet.call("schedule.pause", schedule_id="schedule_000000000000")


def test_one_key_makes_one_schedule(fleet: RunningFleet) -> None:
    first = create(fleet, owner_id="once", idempotency_key="one-schedule")
    again = create(fleet, owner_id="once", idempotency_key="one-schedule")
    assert again == {**first, "replayed": True}
    with pytest.raises(IdempotencyConflict):
        create(fleet, owner_id="twice", idempotency_key="one-schedule")


def test_a_due_slot_runs_once_and_the_next_lies_one_period_later(fleet: RunningFleet) -> None:
    schedule = create(fleet, interval_minutes=60)
    rewind(fleet, schedule, 2)
    before = get(fleet, schedule)["next_run"]
    dispatch(fleet)
    slot = ended(fleet, schedule)
    assert (slot["status"], slot["kind"], slot["attempt"], slot["nominal_utc"]) == ("success", "scheduled", 1, before)
    assert slot["queued_at"] <= slot["started_at"] <= slot["ended_at"]
    found = get(fleet, schedule)
    assert datetime.fromisoformat(found["next_run"]) == datetime.fromisoformat(before) + timedelta(hours=1)
    assert (found["last_status"], found["run_count"], found["version"]) == ("success", 1, 1)
    assert found["last_run"] is not None
    dispatch(fleet)
    assert len(ledger(fleet, schedule)) == 1


def test_after_ten_minutes_down_one_late_run_and_nine_rows_that_say_why(fleet: RunningFleet) -> None:
    schedule = create(fleet, interval_minutes=1)
    rewind(fleet, schedule, 9 * 60 + 30)
    dispatch(fleet)
    ended(fleet, schedule)
    rows = ledger(fleet, schedule)
    assert [row.status for row in rows] == ["skipped"] * 9 + ["success"]
    assert [row.reason for row in rows] == ["misfire"] * 5 + ["coalesced"] * 4 + [None]
    assert [b.nominal_utc - a.nominal_utc for a, b in itertools.pairwise(rows)] == [timedelta(minutes=1)] * 9


def test_a_long_backlog_is_settled_row_by_row(fleet: RunningFleet) -> None:
    schedule = create(fleet, interval_seconds=2)
    rewind(fleet, schedule, 2 * 2500 - 1)
    counts = dispatch(fleet)
    assert counts["skipped"] >= 2499
    rows = ledger(fleet, schedule)
    assert len(rows) >= 2500
    assert [row.reason for row in rows[:2500]].count(None) <= 1
    fleet.call("schedule.delete", schedule_id=schedule["schedule_id"])


def test_a_pause_is_recorded_and_moves_no_slot(fleet: RunningFleet) -> None:
    schedule = create(fleet, interval_minutes=1)
    paused = fleet.call("schedule.pause", schedule_id=schedule["schedule_id"], note="holiday")
    assert (paused["enabled"], paused["pause_note"], paused["changed"], paused["version"]) == (
        False,
        "holiday",
        True,
        2,
    )
    again = fleet.call("schedule.pause", schedule_id=schedule["schedule_id"])
    assert (again["changed"], again["pause_note"], again["version"]) == (False, "holiday", 2)
    rewind(fleet, schedule, 150)
    grid = datetime.fromisoformat(get(fleet, schedule)["next_run"])
    dispatch(fleet)
    assert [row.reason for row in ledger(fleet, schedule)] == ["paused"] * 3
    run(
        fleet,
        "UPDATE scheduled_reviews SET next_run = next_run - interval '3 minutes' WHERE schedule_id = :id",
        id=schedule["schedule_id"],
    )
    resumed = fleet.call("schedule.resume", schedule_id=schedule["schedule_id"])
    assert (resumed["enabled"], resumed["pause_note"]) == (True, None)
    assert (datetime.fromisoformat(resumed["next_run"]) - grid) % timedelta(minutes=1) == timedelta(0)
    assert [row.status for row in ledger(fleet, schedule)] == ["skipped"] * 3


def test_slots_of_a_pause_nobody_dispatched_are_on_the_ledger_after_resume(fleet: RunningFleet) -> None:
    schedule = create(fleet, interval_minutes=1, enabled=False)
    rewind(fleet, schedule, 150)
    fleet.call("schedule.resume", schedule_id=schedule["schedule_id"])
    assert [(row.status, row.reason) for row in ledger(fleet, schedule)] == [("skipped", "paused")] * 3


def test_a_change_settles_what_was_due_by_the_old_rule_first(fleet: RunningFleet) -> None:
    schedule = create(fleet, interval_minutes=60)
    rewind(fleet, schedule, 1)
    changed = fleet.call("schedule.update", schedule_id=schedule["schedule_id"], interval_minutes=5, priority="low")
    assert changed["updates"] == ["interval_minutes", "priority"]
    assert datetime.fromisoformat(changed["next_run"]) - datetime.fromisoformat(changed["updated_at"]) == timedelta(
        minutes=5
    )
    dispatch(fleet)
    assert ended(fleet, schedule)["status"] == "success"


def test_an_update_writes_what_differs_under_its_version(fleet: RunningFleet) -> None:
    schedule = create(fleet, interval_minutes=60, metadata={"a": 1})
    key = {"schedule_id": schedule["schedule_id"]}
    same = fleet.call("schedule.update", **key, interval_minutes=60, metadata={"a": 1})
    assert (same["changed"], same["updates"], same["version"]) == (False, [], 1)
    moved = fleet.call("schedule.update", **key, timezone="Africa/Tripoli", expected_version=1)
    assert (moved["updates"], moved["next_run"]) == (["timezone"], schedule["next_run"])
    with pytest.raises(VersionConflict) as caught:
        fleet.call("schedule.update", **key, max_retries=1, expected_version=1)
    assert caught.value.details["current"] == 2
    seconds = fleet.call("schedule.update", **key, interval_seconds=30)
    assert (seconds["interval_minutes"], seconds["interval_seconds"]) == (None, 30)
    with pytest.raises(InvalidSchedule):
        fleet.call("schedule.update", **key, interval_minutes=5, interval_seconds=5)
    with pytest.raises(InvalidSchedule):
        fleet.call("schedule.update", **key, schedule_type="cron")
    assert get(fleet, schedule)["version"] == 3
    daily = fleet.call("schedule.update", **key, schedule_type="daily", hour=9)
    assert (daily["interval_seconds"], daily["hour"], daily["next_run"][10:]) == (None, 9, "T07:00:00+00:00")


def test_a_deleted_schedule_fires_no_more_and_keeps_its_history(fleet: RunningFleet) -> None:
    schedule = create(fleet, interval_minutes=1)
    rewind(fleet, schedule, 90)
    dispatch(fleet)
    ended(fleet, schedule)
    key = {"schedule_id": schedule["schedule_id"]}
    assert fleet.call("schedule.delete", **key) == {"deleted": True, **key}
    with pytest.raises(ScheduleNotFound):
        fleet.call("schedule.get", **key)
    with pytest.raises(ScheduleNotFound):
        fleet.call("schedule.trigger", **key)
    assert [slot["status"] for slot in history(fleet, schedule)] == ["success", "skipped"]


def test_history_pages_over_everything_once(fleet: RunningFleet) -> None:
    schedule = create(fleet, interval_minutes=1)
    run(
        fleet,
        """INSERT INTO schedule_executions
               (execution_id, schedule_id, kind, nominal_utc, status, reason, priority, attempt, queued_at, publishes)
           SELECT 'exec_page_' || n, :id, 'scheduled', now() - n * interval '1 minute', 'skipped', 'misfire',
                  'medium', 0, now(), 0
           FROM generate_series(1, 1500) AS n""",
        id=schedule["schedule_id"],
    )
    seen: list[str] = []
    cursor = None
    pages = 0
    while pages == 0 or cursor is not None:
        answer = fleet.call("schedule.history", schedule_id=schedule["schedule_id"], limit=400, cursor=cursor)
        seen += [slot["execution_id"] for slot in answer["items"]]
        cursor, pages = answer["next_cursor"], pages + 1
    assert seen == [f"exec_page_{n}" for n in range(1, 1501)]
    assert pages == 4
    assert history(fleet, schedule, status="success") == []


def test_lists_are_by_owner_newest_first_in_pages(fleet: RunningFleet) -> None:
    made = [create(fleet, owner_id="lister", enabled=n != 1)["schedule_id"] for n in range(5)]
    newest = made[::-1]
    first = fleet.call("schedule.list", owner_id="lister", limit=2)
    rest = fleet.call("schedule.list", owner_id="lister", limit=10, cursor=first["next_cursor"])
    assert [one["schedule_id"] for one in first["items"] + rest["items"]] == newest
    enabled = fleet.call("schedule.list", owner_id="lister", enabled_only=True)
    assert [one["schedule_id"] for one in enabled["items"]] == [one for one in newest if one != made[1]]


def test_every_change_of_a_schedule_is_audited(fleet: RunningFleet) -> None:
    schedule = create(fleet, actor="alice")
    key = {"schedule_id": schedule["schedule_id"], "actor": "bob"}
    fleet.call("schedule.update", **key, max_retries=0)
    fleet.call("schedule.pause", **key, note="why")
    fleet.call("schedule.resume", **key)
    fleet.call("schedule.trigger", **key)
    fleet.call("schedule.delete", **key)
    with fleet.engine.connect() as db:
        rows = db.execute(
            text("SELECT action, actor, metadata FROM audit_events WHERE resource = :of ORDER BY timestamp"),
            {"of": f"schedule:{schedule['schedule_id']}"},
        ).all()
    assert [row.action.removeprefix("schedule.") for row in rows] == [
        "create",
        "update",
        "pause",
        "resume",
        "trigger",
        "delete",
    ]
    assert [row.actor for row in rows] == ["alice"] + ["bob"] * 5
    assert rows[2].metadata["note"] == "why"
