"""Jitter, windows and blackouts: when a slot starts, or why it does not (AT-H12, H-08, H-17)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviews import blackouts, windows, zones
from reviews.jitter import jitter
from reviews.occurrences import next_after
from reviews.placement import Placement, place
from reviews.rule import Rule

NOW = datetime(2026, 3, 27, 12, tzinfo=UTC)
"""A Friday, two days before clocks change in Berlin."""

instants = st.datetimes(datetime(2024, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def wall(text: str) -> datetime:
    return datetime.fromisoformat(text)


def placed(nominal: str, following: str | None = None, **values: Any) -> tuple[str | None, str | None]:
    found = place(
        Rule(schedule_type="daily", **values), "schedule_1", at(nominal), at(following) if following else None
    )
    return (f"{found.start:%Y-%m-%d %H:%M}" if found.start else None), found.reason


@given(st.text(max_size=40), instants, st.integers(1, 86400))
def test_jitter_is_equal_on_every_computation_and_below_its_spread(key: str, nominal: datetime, seconds: int) -> None:
    spread = timedelta(seconds=seconds)
    found = jitter(key, nominal, spread)
    assert timedelta(0) <= found < spread
    assert found == jitter(key, nominal.astimezone(zones.zone("Asia/Dubai")), spread)


def test_jitter_is_the_same_in_every_release() -> None:
    """A change of it would move starts of slots that are already planned."""
    assert jitter("schedule_0123456789ab", NOW, timedelta(hours=1)) == timedelta(seconds=3032.706582)


def test_jitter_spreads_schedules_and_slots_evenly() -> None:
    spread = timedelta(seconds=100)
    keys = [jitter(f"schedule_{n}", NOW, spread) // timedelta(seconds=10) for n in range(10_000)]
    slots = [
        jitter("schedule_1", NOW + n * timedelta(minutes=1), spread) // timedelta(seconds=10) for n in range(10_000)
    ]
    for found in (keys, slots):
        assert all(850 < found.count(tenth) < 1150 for tenth in range(10))


def test_no_spread_no_jitter() -> None:
    assert jitter("k", NOW, timedelta(0)) == jitter("k", NOW, timedelta(seconds=-1)) == timedelta(0)


@given(st.integers(1, 86400), st.integers(1, 100_000), instants)
def test_a_start_lies_before_the_next_slot(period: int, seconds: int, nominal: datetime) -> None:
    made = Rule(schedule_type="interval", interval_seconds=period, anchor=nominal, jitter_seconds=seconds)
    following = next_after(made, nominal)
    assert following is not None
    start = place(made, "s", nominal, following).start
    assert start is not None
    assert nominal <= start < following


@pytest.mark.parametrize(
    ("nominal", "expected"),
    [
        ("2026-03-27 08:00", ("2026-03-27 08:00", None)),
        ("2026-03-27 16:59", ("2026-03-27 16:59", None)),
        ("2026-03-27 17:00", (None, "window")),
        ("2026-03-27 07:59", (None, "window")),
        ("2026-03-28 09:00", (None, "window")),
    ],
)
def test_a_slot_outside_the_windows_is_skipped(nominal: str, expected: tuple[str | None, str | None]) -> None:
    assert placed(nominal, windows=("MON-FRI 08:00-17:00",)) == expected


@pytest.mark.parametrize(
    ("nominal", "following", "expected"),
    [
        ("2026-03-27 07:00", None, ("2026-03-27 08:00", None)),
        ("2026-03-27 18:00", None, ("2026-03-30 08:00", None)),
        ("2026-03-27 18:00", "2026-03-30 08:00", (None, "window")),
        ("2026-03-27 18:00", "2026-03-30 08:01", ("2026-03-30 08:00", None)),
        ("2026-03-27 09:00", "2026-03-27 09:01", ("2026-03-27 09:00", None)),
    ],
)
def test_a_slot_may_wait_for_the_next_opening_but_not_past_the_next_slot(
    nominal: str, following: str | None, expected: tuple[str | None, str | None]
) -> None:
    assert placed(nominal, following, windows=("MON-FRI 08:00-17:00",), window_policy="wait") == expected


def test_a_weekly_window_that_is_over_opens_a_week_later() -> None:
    weekly: dict[str, Any] = {"windows": ("FRI 08:00-09:00",), "window_policy": "wait"}
    assert placed("2026-03-27 12:00", **weekly) == ("2026-04-03 08:00", None)


def test_a_window_that_a_jump_swallows_does_not_open_that_day() -> None:
    berlin: dict[str, Any] = {"timezone": "Europe/Berlin", "window_policy": "wait"}
    jump, next_day = "2026-03-29 00:00", "2026-03-29 23:00"  # 01:00 in Berlin; its clock jumps from 02:00 to 03:00
    assert placed(jump, next_day, windows=("02:00-02:30",), **berlin) == (None, "window")
    assert placed(jump, next_day, windows=("02:00-03:00",), **berlin) == (None, "window")
    assert placed(jump, next_day, windows=("02:30-03:30",), **berlin) == ("2026-03-29 01:00", None)


def test_windows_are_local_and_open_after_a_jump() -> None:
    berlin: dict[str, Any] = {"timezone": "Europe/Berlin", "windows": ("02:30-04:00",), "window_policy": "wait"}
    assert placed("2026-03-28 00:00", **berlin) == ("2026-03-28 01:30", None)
    assert placed("2026-03-29 00:00", **berlin) == ("2026-03-29 01:00", None)
    assert placed("2026-10-25 01:00", **berlin) == ("2026-10-25 01:30", None)


@given(st.integers(1, 86400), instants)
def test_jitter_stays_in_the_window(seconds: int, nominal: datetime) -> None:
    texts = ("SAT,SUN 22:00-06:00", "09:00-09:10", "12:00-24:00")
    made = Rule(
        schedule_type="daily", timezone="Europe/Berlin", windows=texts, window_policy="wait", jitter_seconds=seconds
    )
    start = place(made, "s", nominal, None).start
    assert start is not None
    assert start >= nominal
    assert windows.parse(texts).is_open(start.astimezone(zones.zone("Europe/Berlin")).replace(tzinfo=None))


@pytest.mark.parametrize(
    ("text", "open_at", "closed_at"),
    [
        ("09:00-17:30", "2026-03-28 09:00", "2026-03-28 17:30"),
        ("22:00-06:00", "2026-03-28 05:59", "2026-03-28 06:00"),
        ("FRI 22:00-06:00", "2026-03-28 05:59", "2026-03-27 05:59"),
        ("sat,7 00:00-24:00", "2026-03-29 23:59", "2026-03-30 00:00"),
        ("SAT-SUN 10:00-11:00", "2026-03-29 10:00", "2026-03-27 10:00"),
    ],
)
def test_windows_open_and_close(text: str, open_at: str, closed_at: str) -> None:
    parsed = windows.parse((text,))
    assert parsed.is_open(wall(open_at))
    assert not parsed.is_open(wall(closed_at))


@pytest.mark.parametrize(
    "text", ["", "9:00-17:00", "09:00", "09:00-09:00", "09:60-10:00", "24:00-06:00", "09:00-24:01", "FOO 09:00-10:00"]
)
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(windows.WindowError):
        windows.parse((text,))


def test_there_is_an_end_to_windows_and_blackouts() -> None:
    with pytest.raises(windows.WindowError, match="51"):
        windows.parse(("09:00-17:00",) * 51)
    with pytest.raises(blackouts.BlackoutError, match="1001"):
        blackouts.parse(("2026-01-01",) * 1001)


@pytest.mark.parametrize(
    ("entry", "covered", "free"),
    [
        ("2026-12-24", "2026-12-24 23:59", "2026-12-25 00:00"),
        ("2026-12-24/2027-01-01", "2027-01-01 23:59", "2026-12-23 23:59"),
        ("12-25", "2031-12-25 12:00", "2031-12-26 12:00"),
        ("12-24/01-01", "2030-01-01 12:00", "2030-01-02 12:00"),
        ("12-24/01-01", "2030-12-31 12:00", "2030-12-23 12:00"),
        ("02-29", "2028-02-29 12:00", "2027-03-01 12:00"),
        ("2026-12-24T18:00/2026-12-27T06:00", "2026-12-24 18:00", "2026-12-27 06:00"),
    ],
)
def test_blackouts(entry: str, covered: str, free: str) -> None:
    parsed = blackouts.parse((entry,))
    assert parsed.covers(wall(covered))
    assert not parsed.covers(wall(free))
    assert parsed.covers_day(wall(covered).date()) == ("T" not in entry)


@pytest.mark.parametrize(
    "entry",
    [
        *("", "christmas", "2026-02-29", "02-30", "13-01", "2026-12-24/12-26", "2026-12-24/2026-12-23"),
        *("2026-12-24T18:00", "2026-12-24T18:00/2026-12-25", "2026-12-24T25:00/2026-12-26T00:00", "2026-12-24/"),
    ],
)
def test_what_is_no_blackout_is_refused(entry: str) -> None:
    with pytest.raises(blackouts.BlackoutError, match=repr(entry)):
        blackouts.parse((entry,))


def test_a_slot_in_a_blackout_is_skipped_by_its_local_day() -> None:
    dubai: dict[str, Any] = {"timezone": "Asia/Dubai", "blackouts": ("2026-03-27",)}
    assert placed("2026-03-26 20:00", **dubai) == (None, "blackout")
    assert placed("2026-03-27 20:00", **dubai) == ("2026-03-27 20:00", None)


def test_a_wait_that_ends_in_a_blackout_is_one_and_jitter_gives_way_to_it() -> None:
    waits: dict[str, Any] = {"windows": ("09:00-10:00",), "window_policy": "wait"}
    assert placed("2026-03-27 18:00", blackouts=("2026-03-28",), **waits) == (None, "blackout")
    almost_all = ("2026-03-27T12:00:01/2026-03-28T12:00",)
    made = Rule(schedule_type="daily", jitter_seconds=86400, blackouts=almost_all)
    assert place(made, "s", NOW, None) == Placement(NOW)
