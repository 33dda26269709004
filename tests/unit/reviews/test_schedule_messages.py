"""What a schedule may say: INVALID_SCHEDULE names the field and shows a correct example (H-01..H-03)."""

from __future__ import annotations

from typing import Any

import pytest

from reviews.rule import Rule
from reviews.rule_check import check
from sessionfleet.errors import InvalidSchedule, ValidationFailed
from sessionfleet.messages import CreateSchedule, UpdateSchedule


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"schedule_type": "fortnightly"}, "schedule_type"),
        ({}, "schedule_type"),
        ({"schedule_type": "interval", "interval_minutes": 0}, "interval_minutes"),
        ({"schedule_type": "interval", "interval_minutes": "often"}, "interval_minutes"),
        ({"schedule_type": "interval", "interval_minutes": 525601}, "interval_minutes"),
        ({"schedule_type": "interval", "interval_seconds": 1.5}, "interval_seconds"),
        ({"schedule_type": "cron", "hour": 24}, "hour"),
        ({"schedule_type": "weekly", "weekday": 8}, "weekday"),
        ({"schedule_type": "biweekly", "anchor_date": "soon"}, "anchor_date"),
        ({"schedule_type": "interval", "timezone": 1}, "timezone"),
        ({"schedule_type": "daily", "dst_gap": "guess"}, "dst_gap"),
        ({"schedule_type": "daily", "windows": "09:00-17:00"}, "windows"),
        ({"schedule_type": "daily", "jitter_seconds": 86401}, "jitter_seconds"),
        ({"schedule_type": "daily", "end_at": "2099-01-01T00:00:00"}, "end_at"),
    ],
)
def test_a_recurrence_of_the_wrong_type_is_an_invalid_schedule_too(arguments: dict[str, Any], field: str) -> None:
    for message in (CreateSchedule, UpdateSchedule):
        given = {"owner_id": "o"} if message is CreateSchedule else {"schedule_id": "s"}
        if message is UpdateSchedule and not arguments:
            continue
        with pytest.raises(InvalidSchedule) as caught:
            message.parse({**given, **arguments})
        assert caught.value.details["field"] == field
        check_example(caught.value.details["example"])


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"max_retries": 21}, "max_retries"),
        ({"retry_delay_minutes": 0}, "retry_delay_minutes"),
        ({"priority": "urgent"}, "priority"),
        ({"every": 5}, "every"),
    ],
)
def test_what_is_no_recurrence_is_a_failed_validation(arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        CreateSchedule.parse({"schedule_type": "interval", "interval_minutes": 5, "owner_id": "o", **arguments})
    assert caught.value.details["fields"][0]["field"] == field


def check_example(example: dict[str, Any]) -> None:
    check(Rule.of(CreateSchedule.parse(example).model_dump()))
