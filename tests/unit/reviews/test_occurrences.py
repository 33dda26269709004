"""When rules of all seven types fire (AT-H1, AT-H2, H-02, H-04, H-05, H-19)."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviews import zones
from reviews.cron import parse
from reviews.occurrences import HORIZON, next_after, occurrences, one_time
from reviews.rule import COLUMNS, DEFAULTS, Rule
from reviews.rule_check import check
from sessionfleet.errors import InvalidSchedule
from tests.support.wall_clock import WallClock


def at(text: str) -> datetime:
    """2025-03-30 01:30 in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def rule(schedule_type: str, **values: Any) -> Rule:
    made = Rule(schedule_type=schedule_type, **values)
    check(made)
    return made


def cron(expression: str, **values: Any) -> Rule:
    return rule("cron", cron_expression=expression, **{"timezone": "Europe/Berlin", **values})


def utc(made: Rule, after: str, until: str) -> list[str]:
    return [f"{slot:%m-%d %H:%M}" for slot in occurrences(made, at(after), at(until))]


SPRING, AUTUMN = ("2025-03-29 12:00", "2025-03-31 12:00"), ("2025-10-25 12:00", "2025-10-27 12:00")


@pytest.mark.parametrize(
    ("gap", "slots"),
    [
        ("shift", ["03-30 01:30", "03-31 00:30"]),
        ("next_valid", ["03-30 01:00", "03-31 00:30"]),
        ("skip", ["03-31 00:30"]),
    ],
)
def test_half_past_two_where_the_clock_jumps_over_it(gap: zones.Gap, slots: list[str]) -> None:
    assert utc(cron("30 2 * * *", dst_gap=gap), *SPRING) == slots
    assert utc(rule("daily", hour=2, minute=30, timezone="Europe/Berlin", dst_gap=gap), *SPRING) == slots


@pytest.mark.parametrize(
    ("overlap", "slots"),
    [
        ("first", ["10-26 00:30", "10-27 01:30"]),
        ("last", ["10-26 01:30", "10-27 01:30"]),
        ("both", ["10-26 00:30", "10-26 01:30", "10-27 01:30"]),
        ("none", ["10-27 01:30"]),
    ],
)
def test_half_past_two_where_the_clock_shows_it_twice(overlap: zones.Overlap, slots: list[str]) -> None:
    assert utc(cron("30 2 * * *", dst_overlap=overlap), *AUTUMN) == slots
    assert utc(rule("daily", hour=2, minute=30, timezone="Europe/Berlin", dst_overlap=overlap), *AUTUMN) == slots


@pytest.mark.parametrize("expression", ["*/30 * * * *", "0,30 0-23 * * *", "0,30 0-6 * * *", "0-59/30 0-6/1 * * *"])
@pytest.mark.parametrize("overlap", ["first", "last", "both", "none"])
def test_every_half_hour_stays_every_half_real_hour(expression: str, overlap: zones.Overlap) -> None:
    slots = list(occurrences(cron(expression, dst_overlap=overlap), at("2025-10-25 23:00"), at("2025-10-26 03:00")))
    assert slots == [at("2025-10-25 23:30") + n * timedelta(minutes=30) for n in range(8)]


@pytest.mark.parametrize("gap", ["shift", "next_valid", "skip"])
@pytest.mark.parametrize("minute", [0, 15])
def test_every_hour_stays_every_real_hour_over_a_jump(gap: zones.Gap, minute: int) -> None:
    slots = list(islice(occurrences(cron(f"{minute} * * * *", dst_gap=gap), at("2025-03-29 22:59")), 6))
    assert {later - earlier for earlier, later in pairwise(slots)} == {timedelta(hours=1)}


def test_a_shifted_time_that_falls_on_another_one_fires_once() -> None:
    assert utc(cron("30 2,3 * * *"), *SPRING) == ["03-30 01:30", "03-31 00:30", "03-31 01:30"]
    assert utc(cron("0,30 2 * * *", dst_gap="next_valid"), *SPRING) == ["03-30 01:00", "03-31 00:00", "03-31 00:30"]


def test_the_13th_and_fridays_in_both_day_modes() -> None:
    span = ("2026-02-01 00:00", "2026-02-28 00:00")
    assert utc(cron("0 0 13 * 5", timezone="UTC", day_mode="and"), *span) == ["02-13 00:00"]
    either = utc(cron("0 0 13 * 5", timezone="UTC", day_mode="or"), "2026-01-10 00:00", "2026-02-28 00:00")
    fridays = ["01-16", "01-23", "01-30", "02-06", "02-13", "02-20", "02-27"]
    assert either == [f"{day} 00:00" for day in ["01-13", *fridays]]


def test_biweekly_stays_on_its_weekday_and_at_nine_across_a_change() -> None:
    made = rule("biweekly", anchor_date=date(2025, 3, 17), hour=9, timezone="Europe/Vienna")
    assert utc(made, "2025-01-01 00:00", "2025-04-30 00:00") == [
        "03-17 08:00",
        "03-31 07:00",
        "04-14 07:00",
        "04-28 07:00",
    ]
    far = list(islice(occurrences(made, at("2035-01-01 00:00")), 50))
    local = [slot.astimezone(zones.zone("Europe/Vienna")) for slot in far]
    assert {(slot.isoweekday(), slot.hour) for slot in local} == {(1, 9)}
    assert {(later.date() - date(2025, 3, 17)).days % 14 for later in local} == {0}


def test_daily_at_midnight_in_dubai() -> None:
    assert utc(rule("daily", timezone="Asia/Dubai"), "2025-01-01 00:00", "2025-01-02 23:00") == [
        "01-01 20:00",
        "01-02 20:00",
    ]


@pytest.mark.parametrize(
    ("month_end", "slots"),
    [("clamp", "01-31 02-29 03-31 04-30 05-31 06-30"), ("skip", "01-31 03-31 05-31")],
)
def test_monthly_on_the_31st(month_end: Any, slots: str) -> None:
    made = rule("monthly", day=31, month_end=month_end)
    assert utc(made, "2024-01-01 00:00", "2024-07-01 00:00") == [f"{day} 00:00" for day in slots.split()]


def test_monthly_by_default_on_the_first_and_on_the_last_business_day() -> None:
    span = ("2025-10-02 00:00", "2026-01-02 00:00")
    assert utc(rule("monthly", hour=6), *span) == ["11-01 06:00", "12-01 06:00", "01-01 06:00"]
    assert utc(rule("monthly", last_business_day=True), *span) == ["10-31 00:00", "11-28 00:00", "12-31 00:00"]
    closed = rule("monthly", last_business_day=True, blackouts=("2025-12-24/2026-01-01", "11-01/11-30"))
    assert utc(closed, *span) == ["10-31 00:00", "12-23 00:00"]


@pytest.mark.parametrize(("weekday", "day"), [(None, 2), (0, 1), (1, 2), (6, 7), (7, 1)])
def test_weekly_by_default_on_monday_and_on_sunday_as_0_and_7(weekday: int | None, day: int) -> None:
    found = next_after(rule("weekly", weekday=weekday, hour=8), at("2026-03-01 00:00"))
    assert found == at(f"2026-03-{day:02} 08:00")


def test_an_interval_runs_in_utc_without_drift() -> None:
    anchor = at("2025-03-30 00:00") + timedelta(microseconds=7)
    made = rule("interval", interval_minutes=30, timezone="Europe/Berlin", anchor=anchor)
    slots = list(islice(occurrences(made, anchor - timedelta(hours=1)), 1000))
    assert slots == [anchor + n * timedelta(minutes=30) for n in range(-1, 999)]
    with pytest.raises(ValueError, match="anchor"):
        next_after(replace(made, anchor=None), anchor)


def test_one_time_is_local_unless_it_has_an_offset() -> None:
    made = rule("one_time", scheduled_time="2025-07-01T09:00:30", timezone="Europe/Berlin")
    assert list(occurrences(made, at("2025-01-01 00:00"))) == [at("2025-07-01 07:00:30")]
    assert next_after(made, at("2025-07-01 07:00:30")) is None
    assert one_time(replace(made, scheduled_time="2025-07-01T09:00:30Z")) == at("2025-07-01 09:00:30")
    twice = replace(made, scheduled_time="2025-10-26T02:30")
    assert [one_time(replace(twice, dst_overlap=overlap)) for overlap in ("first", "last", "none")] == [
        at("2025-10-26 00:30"),
        at("2025-10-26 01:30"),
        None,
    ]


def test_no_slot_is_later_than_the_end() -> None:
    made = rule("daily", end_at=at("2025-01-03 00:00"))
    assert utc(made, "2025-01-01 00:00", "2026-01-01 00:00") == ["01-02 00:00", "01-03 00:00"]
    assert next_after(made, at("2025-01-03 00:00")) is None


@pytest.mark.parametrize(
    ("expression", "values", "following"),
    [
        ("0 0 29 2 *", {}, "2104-02-29 00:00"),
        ("0 0 29 2 MON", {"day_mode": "and"}, "2112-02-29 00:00"),
        ("0 12 1 1 *", {}, "2097-01-01 12:00"),
    ],
)
def test_rare_days_are_found_quickly(expression: str, values: dict[str, Any], following: str) -> None:
    made = cron(expression, timezone="UTC", **values)
    started = time.process_time()
    assert next_after(made, at("2096-03-01 00:00")) == at(following)
    assert time.process_time() - started < 0.5


def test_a_rule_that_a_policy_never_lets_fire_comes_to_an_end() -> None:
    """The last Sunday of March at 02:30 is always jumped over."""
    made = cron("30 2 ? 3 SUNL", dst_gap="skip")
    started = time.process_time()
    assert next_after(made, at("2025-01-01 00:00")) is None
    assert time.process_time() - started < 2


def test_a_year_of_a_minute_schedule_takes_well_under_five_seconds() -> None:
    made = cron("* * * * *")
    started = time.process_time()
    count = sum(1 for _ in occurrences(made, at("2025-01-01 00:00"), at("2026-01-01 00:00")))
    assert count == 365 * 1440
    assert time.process_time() - started < 5


def test_the_end_of_time_is_reached_without_an_error() -> None:
    late = datetime(9999, 11, 1, tzinfo=UTC)
    for made in (rule("daily"), cron("0 0 29 2 *"), rule("interval", interval_seconds=86400, anchor=late)):
        assert all(slot > late for slot in occurrences(made, late))
        assert next_after(made, datetime.max.replace(tzinfo=UTC)) is None
        assert next_after(made, datetime.min.replace(tzinfo=UTC)) is not None


def test_an_instant_needs_an_offset() -> None:
    naive = at("2025-01-01 00:00").replace(tzinfo=None)
    with pytest.raises(ValueError, match="offset"):
        next_after(rule("daily"), naive)
    with pytest.raises(ValueError, match="offset"):
        list(occurrences(rule("daily"), at("2025-01-01 00:00"), naive))


def test_a_rule_comes_from_a_row_and_ignores_what_else_is_in_it() -> None:
    row = {name: DEFAULTS.get(name) for name in COLUMNS}
    row |= {"schedule_type": "daily", "hour": 7, "windows": ["08:00-09:00"], "blackouts": None, "owner_id": "o"}
    assert Rule.of(row) == Rule(schedule_type="daily", hour=7, windows=("08:00-09:00",))


SOME_ZONES = ("UTC", "Europe/Berlin", "America/Havana", "Australia/Lord_Howe", "Asia/Beirut", "America/Nuuk")
BY_TYPE: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "daily": st.fixed_dictionaries({}),
    "weekly": st.fixed_dictionaries({"weekday": st.integers(0, 7)}),
    "biweekly": st.fixed_dictionaries({"anchor_date": st.dates(date(2020, 1, 1), date(2026, 1, 1))}),
    "monthly": st.fixed_dictionaries({"day": st.integers(1, 31), "month_end": st.sampled_from(["clamp", "skip"])}),
}
MINUTES = ("*", "*/30", "*/7", "0", "59", "5,35")
HOURS = ("*", "*/2", "0-6", "1,2", "2", "0,23", "22-23")
DAYS = ("* * *", "* * SUN", "L * *", "? * 1-5", "1-7 * SUN")
policies = st.fixed_dictionaries(
    {
        "timezone": st.sampled_from(SOME_ZONES),
        "dst_gap": st.sampled_from(["shift", "next_valid", "skip"]),
        "dst_overlap": st.sampled_from(["first", "last", "both", "none"]),
    }
)
crons = st.tuples(*map(st.sampled_from, (MINUTES, HOURS, DAYS))).map(" ".join)
rules = st.one_of(
    st.builds(lambda text, rest: cron(text, day_mode="and", **rest), crons, policies),
    st.sampled_from(sorted(BY_TYPE)).flatmap(
        lambda name: st.builds(
            lambda fields, hour, minute, rest: rule(name, hour=hour, minute=minute, **fields, **rest),
            BY_TYPE[name],
            st.integers(0, 23),
            st.sampled_from([0, 15, 30, 59]),
            policies,
        )
    ),
)
instants = st.datetimes(datetime(2024, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@given(rules, instants, st.integers(1, 60 * 24 * 40), st.floats(0, 1))
def test_any_cut_of_time_gives_the_same_slots(made: Rule, after: datetime, minutes: int, share: float) -> None:
    until = after + timedelta(minutes=minutes)
    cut = after + timedelta(minutes=int(minutes * share))
    whole = list(occurrences(made, after, until))
    assert whole == [*occurrences(made, after, cut), *occurrences(made, cut, until)]
    assert all(earlier < later for earlier, later in pairwise([after, *whole]))
    assert all(slot <= until and slot.tzinfo is UTC for slot in whole)


@given(rules, instants)
def test_the_slot_after_each_slot_is_the_following_one(made: Rule, after: datetime) -> None:
    slots = list(islice(occurrences(made, after), 30))
    following, chain = next_after(made, after), []
    while following is not None and len(chain) < len(slots):
        chain.append(following)
        following = next_after(made, following)
    assert chain == slots
    assert all(slot - after < HORIZON for slot in slots)


@given(
    st.sampled_from(MINUTES),
    st.sampled_from(HOURS),
    policies,
    st.sampled_from(
        ["2025-03-29", "2025-03-08", "2025-04-05", "2025-10-04", "2025-10-25", "2025-11-01", "2025-06-01"]
    ),
)
def test_any_cron_fires_as_a_clock_read_minute_by_minute_says(
    minute: str, hour: str, chosen: dict[str, Any], day: str
) -> None:
    made = cron(f"{minute} {hour} * * *", **chosen)
    start = at(f"{day} 00:00")
    clock = WallClock(zones.zone(made.timezone), start - timedelta(days=1), start + timedelta(days=4))
    parsed = parse(made.cron_expression or "")
    times = [(h, m) for h in parsed.hours for m in parsed.minutes]
    days = [start.date() + timedelta(days=n) for n in range(-2, 5)]
    expected = clock.slots(days, times, made.dst_gap, made.dst_overlap, parsed.hours)
    until = start + timedelta(days=3)
    assert list(occurrences(made, start, until)) == [slot for slot in expected if start < slot <= until]


def test_what_can_not_be_checked_is_not_made() -> None:
    with pytest.raises(InvalidSchedule):
        cron("30 2 30 2 *")
