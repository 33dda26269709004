"""INVALID_SCHEDULE names the field and shows a schedule that is right (AT-H1, H-03)."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from reviews.rule import COLUMNS, Rule
from reviews.rule_check import check
from reviews.rule_types import FIELDS, TYPES
from sessionfleet.errors import InvalidSchedule
from sessionfleet.messages.schedule_examples import EXAMPLES

NOW = datetime(2026, 3, 27, 12, tzinfo=UTC)

GOOD: dict[str, dict[str, Any]] = {
    "daily": {},
    "weekly": {},
    "biweekly": {"anchor_date": date(2026, 1, 5)},
    "monthly": {},
    "cron": {"cron_expression": "*/30 * * * *"},
    "interval": {"interval_minutes": 5},
    "one_time": {"scheduled_time": "2026-06-01T09:00"},
}


def of_example(example: dict[str, Any]) -> Rule:
    given = {name: value for name, value in example.items() if name in COLUMNS}
    for name, read in (("anchor_date", date.fromisoformat), ("end_at", datetime.fromisoformat)):
        if name in given:
            given[name] = read(given[name])
    return Rule.of(given)


def refused(field: str, now: datetime | None = NOW, **values: Any) -> str:
    with pytest.raises(InvalidSchedule) as caught:
        check(Rule(**values), now)
    details = caught.value.details
    assert details["field"] == field
    assert caught.value.message.startswith(f"{field}: {details['reason']}. A correct schedule: schedule_type=")
    check(of_example(details["example"]), NOW)
    return str(details["reason"])


@pytest.mark.parametrize("schedule_type", TYPES)
def test_each_type_needs_no_more_than_its_own_field(schedule_type: str) -> None:
    check(Rule(schedule_type=schedule_type, **GOOD[schedule_type]), NOW)
    check(of_example(EXAMPLES[schedule_type]), NOW)
    assert EXAMPLES.keys() == TYPES.keys() == FIELDS.keys()


@pytest.mark.parametrize(
    ("schedule_type", "field"),
    [
        ("biweekly", "anchor_date"),
        ("cron", "cron_expression"),
        ("interval", "interval_minutes"),
        ("one_time", "scheduled_time"),
    ],
)
def test_a_missing_field_is_named(schedule_type: str, field: str) -> None:
    assert "is required" in refused(field, schedule_type=schedule_type)


OWN: dict[str, Any] = {
    "interval_minutes": 5,
    "interval_seconds": 5,
    "cron_expression": "* * * * *",
    "day_mode": "and",
    "scheduled_time": "2026-06-01T09:00",
    "hour": 9,
    "minute": 30,
    "weekday": 1,
    "day": 3,
    "last_business_day": True,
    "month_end": "skip",
    "anchor_date": date(2026, 1, 5),
}


@pytest.mark.parametrize("schedule_type", TYPES)
@pytest.mark.parametrize("field", OWN)
def test_a_field_of_another_type_is_refused(schedule_type: str, field: str) -> None:
    if field in FIELDS[schedule_type]:
        return
    reason = refused(field, schedule_type=schedule_type, **GOOD[schedule_type], **{field: OWN[field]})
    assert reason == f"has no meaning when schedule_type is {schedule_type}"


@pytest.mark.parametrize("schedule_type", TYPES)
@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("timezone", {"timezone": "Mars/Olympus"}),
        ("timezone", {"timezone": "../../etc/passwd"}),
        ("dst_gap", {"dst_gap": "jump"}),
        ("dst_overlap", {"dst_overlap": "twice"}),
        ("jitter_seconds", {"jitter_seconds": -1}),
        ("jitter_seconds", {"jitter_seconds": 86401}),
        ("windows", {"windows": ("9-5",)}),
        ("window_policy", {"window_policy": "hope"}),
        ("window_policy", {"window_policy": "wait"}),
        ("blackouts", {"blackouts": ("christmas",)}),
        ("end_at", {"end_at": NOW}),
        ("end_at", {"end_at": NOW.replace(tzinfo=None)}),
    ],
)
def test_what_all_types_have_is_checked_for_all(schedule_type: str, field: str, values: dict[str, Any]) -> None:
    refused(field, schedule_type=schedule_type, **GOOD[schedule_type], **values)


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("schedule_type", {"schedule_type": "fortnightly"}),
        ("hour", {"schedule_type": "daily", "hour": 24}),
        ("minute", {"schedule_type": "daily", "minute": -1}),
        ("weekday", {"schedule_type": "weekly", "weekday": 8}),
        ("weekday", {"schedule_type": "biweekly", "anchor_date": date(2026, 1, 5), "weekday": 2}),
        ("day", {"schedule_type": "monthly", "day": 32}),
        ("month_end", {"schedule_type": "monthly", "month_end": "roll"}),
        ("month_end", {"schedule_type": "monthly", "last_business_day": True, "month_end": "skip"}),
        ("last_business_day", {"schedule_type": "monthly", "last_business_day": True, "day": 31}),
        ("last_business_day", {"schedule_type": "monthly", "last_business_day": True, "blackouts": ("01-01/12-31",)}),
        ("cron_expression", {"schedule_type": "cron", "cron_expression": "61 * * * *"}),
        ("cron_expression", {"schedule_type": "cron", "cron_expression": "0 0 31 2 *"}),
        ("cron_expression", {"schedule_type": "cron", "cron_expression": "0 0 1-7 2 MON#5", "day_mode": "and"}),
        ("day_mode", {"schedule_type": "cron", "cron_expression": "0 0 13 * 5"}),
        ("day_mode", {"schedule_type": "cron", "cron_expression": "0 0 13 * 5", "day_mode": "xor"}),
        ("interval_seconds", {"schedule_type": "interval", "interval_minutes": 1, "interval_seconds": 60}),
        ("interval_seconds", {"schedule_type": "interval", "interval_seconds": 0}),
        ("interval_minutes", {"schedule_type": "interval", "interval_minutes": 0.01}),
        ("interval_minutes", {"schedule_type": "interval", "interval_minutes": 1.001}),
        ("dst_gap", {"schedule_type": "interval", "interval_minutes": 1, "dst_gap": "skip"}),
        ("dst_overlap", {"schedule_type": "one_time", "scheduled_time": "2026-06-01T09:00", "dst_overlap": "both"}),
        ("scheduled_time", {"schedule_type": "one_time", "scheduled_time": "soon"}),
        ("scheduled_time", {"schedule_type": "one_time", "scheduled_time": "2026-03-27T12:00"}),
        (
            "scheduled_time",
            {"schedule_type": "one_time", "scheduled_time": "2026-03-27T15:59", "timezone": "Asia/Dubai"},
        ),
        ("end_at", {"schedule_type": "daily", "end_at": NOW + timedelta(hours=12, seconds=-1)}),
        (
            "end_at",
            {
                "schedule_type": "interval",
                "interval_minutes": 60,
                "end_at": NOW + timedelta(minutes=59),
                "anchor": NOW,
            },
        ),
        (
            "end_at",
            {"schedule_type": "one_time", "scheduled_time": "2026-06-01T09:00", "end_at": NOW + timedelta(days=1)},
        ),
    ],
)
def test_what_does_not_fit_its_type_is_named(field: str, values: dict[str, Any]) -> None:
    refused(field, **values)


def test_a_one_time_too_far_ahead_is_not_called_past() -> None:
    assert "more than 100 years ahead" in refused(
        "scheduled_time", schedule_type="one_time", scheduled_time="2150-01-01T00:00"
    )
    assert "in the past" in refused("scheduled_time", schedule_type="one_time", scheduled_time="2026-03-27T12:00")


def test_an_interval_may_end_after_a_slot_of_its_grid() -> None:
    hourly: dict[str, Any] = {"schedule_type": "interval", "interval_minutes": 60}
    check(Rule(**hourly, end_at=NOW + timedelta(minutes=60), anchor=NOW), NOW)
    check(Rule(**hourly, end_at=NOW + timedelta(minutes=9)), NOW)  # an update ends one this way
    check(Rule(**hourly, end_at=NOW + timedelta(minutes=10), anchor=NOW + timedelta(minutes=10)), NOW)
    refused("end_at", **hourly, end_at=NOW + timedelta(minutes=9), anchor=NOW + timedelta(minutes=10))


def test_a_one_time_in_a_jump_or_a_repeated_hour_needs_a_policy_that_keeps_it() -> None:
    berlin: dict[str, Any] = {"schedule_type": "one_time", "timezone": "Europe/Berlin"}
    jumped, twice = "2026-03-29T02:30", "2026-10-25T02:30"
    assert "dst_gap=skip" in refused("scheduled_time", scheduled_time=jumped, dst_gap="skip", **berlin)
    assert "dst_overlap=none" in refused("scheduled_time", scheduled_time=twice, dst_overlap="none", **berlin)
    check(Rule(scheduled_time=jumped, dst_overlap="none", **berlin), NOW)
    check(Rule(scheduled_time=twice, dst_gap="skip", **berlin), NOW)


def test_a_rule_that_a_policy_never_lets_fire_is_refused() -> None:
    values: dict[str, Any] = {
        "schedule_type": "cron",
        "cron_expression": "30 2 ? 3 SUNL",
        "timezone": "Europe/Berlin",
    }
    assert "no slot in the next 100 years" in refused("cron_expression", dst_gap="skip", **values)
    check(Rule(**values), NOW)


def test_windows_that_every_slot_misses_are_a_contradiction() -> None:
    assert "none of the next" in refused("windows", schedule_type="daily", hour=9, windows=("10:00-11:00",))
    check(Rule(schedule_type="daily", hour=9, windows=("10:00-11:00",), window_policy="wait"), NOW)
    check(Rule(schedule_type="daily", hour=9, windows=("SUN 09:00-10:00",)), NOW)
    refused("windows", windows=("10:00-11:00",), schedule_type="one_time", scheduled_time="2026-06-01T09:00")
    # The next 60 slots of a minute schedule say little about the week.
    check(Rule(schedule_type="cron", cron_expression="* * * * *", windows=("SUN 09:00-10:00",)), NOW)


def test_without_a_clock_the_past_is_not_looked_at() -> None:
    check(Rule(schedule_type="one_time", scheduled_time="2001-01-01T00:00"))
    check(Rule(schedule_type="daily", end_at=datetime(2001, 1, 1, tzinfo=UTC)))
