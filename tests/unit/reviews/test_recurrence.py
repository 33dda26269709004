"""The slots of a stored schedule: due ones, the next, and what a change moves (H-02)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from reviews.recurrence import due, first, moved
from reviews.rule import Rule

T0 = datetime(2026, 3, 29, 0, 30, 0, 123456, tzinfo=UTC)
"""Half an hour before clocks change in Europe."""

MINUTE = timedelta(minutes=1)
DAILY = Rule(schedule_type="daily", hour=9, timezone="Europe/Berlin")


def every(seconds: int, anchor: datetime | None = T0, **values: object) -> Rule:
    return replace(Rule(schedule_type="interval", interval_seconds=seconds, anchor=anchor), **values)  # type: ignore[arg-type]


def test_an_interval_does_not_hear_of_clock_changes() -> None:
    slots, _ = due(every(1800, timezone="Europe/Berlin"), T0, T0 + timedelta(hours=3), 100)
    assert slots == [T0 + n * timedelta(minutes=30) for n in range(7)]


def test_the_first_slot_of_an_interval_lies_one_period_ahead() -> None:
    assert first(every(60, anchor=None), T0) == T0 + MINUTE


def test_the_first_slot_of_a_local_time_is_its_next_one() -> None:
    assert first(DAILY, T0) == datetime(2026, 3, 29, 7, tzinfo=UTC)


def test_due_slots_are_those_up_to_now_and_the_one_that_follows() -> None:
    assert due(every(60), T0, T0 - timedelta(microseconds=1), 10) == ([], T0)
    assert due(every(60), T0, T0, 10) == ([T0], T0 + MINUTE)
    slots, following = due(every(60), T0, T0 + timedelta(hours=1), 10)
    assert (len(slots), following) == (10, T0 + timedelta(minutes=10))


def test_after_the_last_slot_nothing_follows() -> None:
    once = Rule(schedule_type="one_time", scheduled_time="2026-03-29T00:30:00Z")
    slot = datetime(2026, 3, 29, 0, 30, tzinfo=UTC)
    assert due(once, slot, T0, 10) == ([slot], None)
    assert due(every(60, end_at=T0 + MINUTE), T0, T0 + timedelta(hours=1), 10) == ([T0, T0 + MINUTE], None)


def test_a_change_that_leaves_the_period_keeps_the_grid() -> None:
    kept = T0 + timedelta(seconds=7)
    assert moved(every(300), every(300, timezone="Asia/Dubai"), kept, T0) == kept
    assert moved(every(300), every(0, interval_seconds=None, interval_minutes=5), kept, T0) == kept
    assert moved(every(300), every(300, end_at=T0), kept, T0) is None
    assert moved(every(300), every(301), kept, T0) == T0 + timedelta(seconds=301)
    assert moved(every(300), DAILY, kept, T0) == datetime(2026, 3, 29, 7, tzinfo=UTC)
