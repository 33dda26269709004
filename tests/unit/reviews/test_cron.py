"""Cron text: what it means and what is refused (H-03)."""

from __future__ import annotations

from calendar import monthrange
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from itertools import islice

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from reviews import cron
from reviews.cron import Cron, DayMode, parse
from reviews.cron_fields import CronError
from reviews.occurrences import occurrences
from reviews.rule import Rule

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)


def days(expression: str, year: int, month: int, mode: DayMode | None = None) -> list[int]:
    return parse(f"0 0 {expression}").days_in(year, month, mode)


@pytest.mark.parametrize(
    ("expression", "minutes", "hours"),
    [
        ("* * * * *", range(60), range(24)),
        ("*/15 */6 * * *", (0, 15, 30, 45), (0, 6, 12, 18)),
        ("5/20 22/1 * * *", (5, 25, 45), (22, 23)),
        ("10-20/5,59,0 9-11,8 * * *", (0, 10, 15, 20, 59), (8, 9, 10, 11)),
        ("00 07 * * *", (0,), (7,)),
        ("50/60 0 * * *", (50,), (0,)),
        ("5-5/2 0 * * *", (5,), (0,)),
    ],
)
def test_minutes_and_hours(expression: str, minutes: range, hours: range) -> None:
    parsed = parse(expression)
    assert (parsed.minutes, parsed.hours) == (tuple(minutes), tuple(hours))


@pytest.mark.parametrize("sunday", ["0", "7", "SUN", "sun", "7-7", "0,7", "Sun"])
def test_sunday_is_0_and_7(sunday: str) -> None:
    assert days(f"* * {sunday}", 2026, 3) == [1, 8, 15, 22, 29]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("* * MON", [2, 9, 16, 23, 30]),
        ("* * FRI-SUN", [1, 6, 7, 8, 13, 14, 15, 20, 21, 22, 27, 28, 29]),
        ("* * SAT-7", [1, 7, 8, 14, 15, 21, 22, 28, 29]),
        ("* * 1/3", [2, 5, 9, 12, 16, 19, 23, 26, 30]),
        ("L * *", [31]),
        ("LW * *", [31]),
        ("L,1 * ?", [1, 31]),
        ("? * FRI#3", [20]),
        ("? * 5#5", []),
        ("? * 2#5", [31]),
        ("* * FRIL", [27]),
        ("* * 7L,MON#1", [2, 29]),
        ("10-12 MAR *", [10, 11, 12]),
        ("*/10 * *", [1, 11, 21, 31]),
        ("1 apr *", []),
        ("1-31 * MON#1", [2]),
    ],
)
def test_days_of_march_2026(fields: str, expected: list[int]) -> None:
    assert days(fields, 2026, 3) == expected


@pytest.mark.parametrize(("month", "last"), [(1, 30), (2, 27), (5, 29), (8, 31), (10, 30)])
def test_the_last_weekday_of_a_month_is_no_saturday_or_sunday(month: int, last: int) -> None:
    assert days("LW * *", 2026, month) == [last]


def test_both_day_fields_need_to_be_told_how_they_combine() -> None:
    assert parse("0 0 13 * 5").needs_day_mode
    assert days("13 * 5", 2026, 2, "and") == [13]
    assert days("13 * 5", 2026, 2, "or") == [6, 13, 20, 27]
    with pytest.raises(CronError, match="day_mode"):
        days("13 * 5", 2026, 2)


@pytest.mark.parametrize(
    "fields", ["13 * *", "13 * ?", "* * 5", "? * 5", "*/1 * 5", "1-31 * 5", "13 * 0-6", "13 * 1-7"]
)
def test_a_field_that_allows_every_day_restricts_nothing_however_it_is_written(fields: str) -> None:
    assert not parse(f"0 0 {fields}").needs_day_mode


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("", "0 fields"),
        ("* * * *", "4 fields"),
        ("0 * * * * *", "6 fields"),
        ("@daily", "1 fields"),
        ("60 * * * *", "minute 60 is not between 0 and 59"),
        ("* 24 * * *", "hour 24"),
        ("* * 0 * *", "day of month 0"),
        ("* * 32 * *", "day of month 32"),
        ("* * * 13 *", "month 13"),
        ("* * * * 8", "weekday 8"),
        ("* * * * MOON", "one of SUN, MON"),
        ("* * * JUNE *", "one of JAN, FEB"),
        ("-1 * * * *", "minute ''"),
        ("1- * * * *", "minute ''"),
        ("1,,2 * * * *", "minute ''"),
        ("*/0 * * * *", "step '0'"),
        ("*/x * * * *", "step 'X'"),
        ("*/ * * * *", "step ''"),
        ("*/61 * * * *", "step 61"),
        ("0 22-2 * * *", "22-23,0-2"),
        ("* * L-3 * *", "day of month 'L'"),
        ("* * 15W * *", "'15W'"),
        ("* * * * L", "weekday ''"),
        ("* * * * 1#0", "after #"),
        ("* * * * 1#6", "after #"),
        ("* * ?,1 * *", "'?'"),
        ("? * * * *", "minute '?'"),
        ("٣ * * * *", "minute '٣'"),
        ("* * * * 1-5#2", "weekday '1-5'"),
        ("99999999999999999999 * * * *", "minute 99999999999999999999"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_part_that_is_wrong(expression: str, said: str) -> None:
    with pytest.raises(CronError) as caught:
        parse(expression)
    assert said in str(caught.value)


@given(st.text(alphabet="0123456789*/,-?#LWMONSU ", max_size=24))
def test_any_text_is_read_or_refused(text: str) -> None:
    for expression in (text, f"0 0 {text}"):
        with suppress(CronError):
            assert isinstance(parse(expression), Cron)


@pytest.mark.parametrize(
    ("expression", "mode"),
    [("0 0 31 2 *", None), ("0 0 30 FEB *", None), ("0 0 31 4,6,9,11 *", None), ("0 0 1-7 * MON#5", "and")],
)
def test_days_that_no_year_has_are_known(expression: str, mode: DayMode | None) -> None:
    assert not parse(expression).is_possible(mode)


@pytest.mark.parametrize(
    ("expression", "mode"),
    [
        ("0 0 29 2 *", None),
        ("0 0 29 2 MON", "and"),
        ("0 0 ? 2 MON#5", None),
        ("0 0 31 2 MON", "or"),
        ("0 0 L 2 *", None),
    ],
)
def test_days_that_some_year_has_are_possible(expression: str, mode: DayMode | None) -> None:
    assert parse(expression).is_possible(mode)


def test_weekdays_alone() -> None:
    assert cron.weekdays("mon-fri") == {1, 2, 3, 4, 5}
    assert cron.weekdays("SAT,7") == {6, 0}


def number(low: int, high: int) -> st.SearchStrategy[str]:
    one = st.integers(low, high)
    span = st.tuples(one, one).map(lambda pair: f"{min(pair)}-{max(pair)}")
    # A range of one number with a step is left out: cronsim takes 5-5/2 for 5/2.
    wide = st.tuples(one, one).filter(lambda pair: pair[0] < pair[1]).map(lambda pair: f"{pair[0]}-{pair[1]}")
    stepped = st.tuples(wide, st.integers(1, 5)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    term = st.one_of(one.map(str), span, stepped)
    return st.one_of(
        st.just("*"), st.integers(1, 6).map("*/{}".format), st.lists(term, min_size=1, max_size=3).map(",".join)
    )


weekday = st.one_of(
    number(0, 6),
    st.just("7"),
    st.integers(0, 7).map("{}L".format),
    st.tuples(st.integers(0, 7), st.integers(1, 4)).map("{0[0]}#{0[1]}".format),
)
day = st.one_of(number(1, 28), st.just("L"), st.just("LW"))


@given(
    minute=number(0, 59),
    hour=number(0, 23),
    month=number(1, 12),
    either=st.one_of(day.map(lambda text: (text, "*")), weekday.map(lambda text: ("*", text))),
    start=st.datetimes(datetime(2023, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_in_utc_it_agrees_with_cronsim(
    minute: str, hour: str, month: str, either: tuple[str, str], start: datetime
) -> None:
    expression = f"{minute} {hour} {either[0]} {month} {either[1]}"
    rule = Rule(schedule_type="cron", cron_expression=expression)
    assert list(islice(occurrences(rule, start), 20)) == list(islice(CronSim(expression, start), 20))


@given(
    days=st.sets(st.integers(1, 31), min_size=1, max_size=4),
    weekdays=st.sets(st.integers(0, 6), min_size=1, max_size=3),
    n=st.integers(0, 60),
)
def test_the_two_day_modes_are_both_and_either(days: set[int], weekdays: set[int], n: int) -> None:
    year, month = 2024 + n // 12, n % 12 + 1
    text = f"0 0 {','.join(map(str, days))} * {','.join(map(str, weekdays))}"
    all_days = [date(year, month, 1) + timedelta(days=k) for k in range(monthrange(year, month)[1])]
    in_month = {found.day for found in all_days if found.day in days}
    in_week = {found.day for found in all_days if found.isoweekday() % 7 in weekdays}
    assert parse(text).days_in(year, month, "and") == sorted(in_month & in_week)
    assert parse(text).days_in(year, month, "or") == sorted(in_month | in_week)
