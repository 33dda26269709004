"""Every schedule type from creation to its run, through real workers (AT-H1, AT-H2; H-01..H-05)."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from sessionfleet.errors import InvalidSchedule
from tests.support import RunningFleet
from tests.support.scheduling import dispatch, ended, get, rewind

DUBAI = ZoneInfo("Asia/Dubai")


def create(fleet: RunningFleet, **arguments: Any) -> dict[str, Any]:
    made: dict[str, Any] = fleet.call("schedule.create", owner_id="types", **arguments)
    return made


def next_run(schedule: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(schedule["next_run"])


def in_dubai(schedule: dict[str, Any]) -> datetime:
    return next_run(schedule).astimezone(DUBAI)


def test_daily_at_midnight_in_dubai_is_20_00_utc(fleet: RunningFleet) -> None:
    made = create(fleet, schedule_type="daily", timezone="Asia/Dubai")
    assert made["next_run"][10:] == "T20:00:00+00:00"
    assert made["next_run_local"][10:] == "T00:00:00+04:00"
    ahead = next_run(made) - datetime.fromisoformat(made["created_at"])
    assert timedelta(0) < ahead <= timedelta(days=1)


@pytest.mark.parametrize(("weekday", "falls_on"), [(0, 7), (7, 7), (None, 1), (3, 3)])
def test_weekly_runs_on_its_day_and_sunday_is_0_and_7(
    fleet: RunningFleet, weekday: int | None, falls_on: int
) -> None:
    made = create(fleet, schedule_type="weekly", weekday=weekday, hour=9, timezone="Asia/Dubai")
    assert (in_dubai(made).isoweekday(), in_dubai(made).hour) == (falls_on, 9)


@pytest.mark.parametrize("weekday", ["0", "7", "SUN"])
def test_cron_knows_sunday_by_each_of_its_names(fleet: RunningFleet, weekday: str) -> None:
    made = create(fleet, schedule_type="cron", cron_expression=f"30 6 * * {weekday}", timezone="Asia/Dubai")
    slot = in_dubai(made)
    assert (slot.isoweekday(), slot.hour, slot.minute) == (7, 6, 30)


def test_biweekly_stays_on_whole_fortnights_from_its_anchor(fleet: RunningFleet) -> None:
    made = create(fleet, schedule_type="biweekly", anchor_date="2024-01-02", hour=9, timezone="Asia/Dubai")
    slot = in_dubai(made)
    assert ((slot.date() - date(2024, 1, 2)).days % 14, slot.hour) == (0, 9)
    assert slot - datetime.now(UTC) <= timedelta(days=14)


def test_monthly_takes_the_last_day_or_leaves_the_month_out(fleet: RunningFleet) -> None:
    clamped = create(fleet, schedule_type="monthly", day=31)
    assert (next_run(clamped) + timedelta(days=1)).day == 1
    skipped = create(fleet, schedule_type="monthly", day=31, month_end="skip")
    assert next_run(skipped).day == 31
    business = create(fleet, schedule_type="monthly", last_business_day=True)
    assert next_run(business).isoweekday() <= 5


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        ({}, "2097-03-31T01:30:00+00:00"),
        ({"dst_gap": "next_valid"}, "2097-03-31T01:00:00+00:00"),
    ],
)
def test_a_wall_time_in_the_gap_follows_its_policy(
    fleet: RunningFleet, policies: dict[str, Any], expected: str
) -> None:
    made = create(
        fleet, schedule_type="one_time", scheduled_time="2097-03-31T02:30", timezone="Europe/Berlin", **policies
    )
    assert made["next_run"] == expected


@pytest.mark.parametrize(("overlap", "hour"), [("first", 0), ("last", 1)])
def test_a_wall_time_that_comes_twice_follows_its_policy(fleet: RunningFleet, overlap: str, hour: int) -> None:
    made = create(
        fleet,
        schedule_type="one_time",
        scheduled_time="2097-10-27T02:30",
        timezone="Europe/Berlin",
        dst_overlap=overlap,
    )
    assert made["next_run"] == f"2097-10-27T0{hour}:30:00+00:00"


@pytest.mark.parametrize(
    "arguments",
    [
        {"schedule_type": "daily", "hour": 3, "timezone": "Asia/Dubai"},
        {"schedule_type": "cron", "cron_expression": "*/30 * * * *", "timezone": "Europe/Berlin"},
        {"schedule_type": "monthly", "day": 31},
    ],
)
def test_each_runs_when_it_is_due_and_comes_back_to_its_times(fleet: RunningFleet, arguments: dict[str, Any]) -> None:
    made = create(fleet, **arguments)
    rewind(fleet, made, 1)
    dispatch(fleet)
    assert ended(fleet, made)["status"] == "success"
    assert get(fleet, made)["next_run"] == made["next_run"]


def test_one_time_runs_once_and_has_no_slot_after_that(fleet: RunningFleet) -> None:
    made = create(fleet, schedule_type="one_time", scheduled_time="2099-01-01T09:00", timezone="Europe/Berlin")
    assert made["next_run"] == "2099-01-01T08:00:00+00:00"
    fleet.call("schedule.update", schedule_id=made["schedule_id"], scheduled_time="2098-01-01T09:00:00+09:00")
    assert get(fleet, made)["next_run"] == "2098-01-01T00:00:00+00:00"


def test_every_field_of_a_recurrence_is_read_back_as_given(fleet: RunningFleet) -> None:
    given = {
        "schedule_type": "cron",
        "cron_expression": "0 9 13 * FRI",
        "day_mode": "or",
        "timezone": "Europe/Berlin",
        "dst_gap": "skip",
        "dst_overlap": "last",
        "jitter_seconds": 30,
        "windows": ["MON-SUN 08:00-18:00"],
        "window_policy": "wait",
        "blackouts": ["12-24"],
        "end_at": "2099-12-31T00:00:00+00:00",
    }
    made = create(fleet, **given)
    assert {name: get(fleet, made)[name] for name in given} == given
    assert made["tzdata_version"]


def test_no_slot_is_later_than_end_at(fleet: RunningFleet) -> None:
    made = create(fleet, schedule_type="interval", interval_minutes=60)
    key = {"schedule_id": made["schedule_id"]}
    soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    assert fleet.call("schedule.update", **key, end_at=soon)["next_run"] is None
    with pytest.raises(InvalidSchedule) as caught:
        create(fleet, schedule_type="interval", interval_minutes=60, end_at=soon)
    assert caught.value.details["field"] == "end_at"
