"""Months, cut-offs and runways: the arithmetic of partition upkeep (J-01, J-04, J-08)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from history.detach import expired, retention_cutoff
from history.partitions import Partition, months, runway_days

# Hypothesis wants naive bounds and adds the zone itself.
FIRST, LAST = datetime(2001, 1, 1), datetime(2300, 1, 1)  # noqa: DTZ001
instants = st.datetimes(min_value=FIRST, max_value=LAST, timezones=st.just(UTC))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def month(lower: str, upper: str, *, pending: bool = False) -> Partition:
    return Partition("public", f"m_{lower}", at(f"{lower}T00:00Z"), at(f"{upper}T00:00Z"), pending)


def test_months_begin_with_the_current_one_and_cross_the_year() -> None:
    assert [f"{m:%Y-%m}" for m in months(at("2025-11-30T23:59:59Z"), 4)] == [
        "2025-11",
        "2025-12",
        "2026-01",
        "2026-02",
    ]


def test_months_are_months_of_utc() -> None:
    evening_in_new_york = datetime(2026, 1, 31, 20, 0, tzinfo=timezone(timedelta(hours=-5)))

    assert list(months(evening_in_new_york, 1)) == [at("2026-02-01T00:00Z")]


@given(instants, st.integers(1, 40))
def test_months_follow_each_other_without_gap(now: datetime, count: int) -> None:
    run = list(months(now, count))

    assert len(run) == count
    assert run[0] <= now < run[0] + timedelta(days=31)
    assert all(timedelta(days=28) <= later - earlier <= timedelta(days=31) for earlier, later in pairwise(run))
    assert all(m.day == 1 and m.hour == 0 for m in run)


def test_cutoff_takes_the_last_day_of_a_shorter_month() -> None:
    assert retention_cutoff(at("2026-08-31T10:00Z"), 6) == at("2026-02-28T10:00Z")
    assert retention_cutoff(at("2024-03-31T10:00Z"), 1) == at("2024-02-29T10:00Z")


@given(instants, st.integers(1, 120))
def test_cutoff_goes_back_that_many_months(now: datetime, count: int) -> None:
    back = retention_cutoff(now, count)

    assert (now.year * 12 + now.month) - (back.year * 12 + back.month) == count
    assert back.day <= now.day


def test_a_month_leaves_when_its_last_row_is_too_old_and_not_before() -> None:
    january = month("2026-01-01", "2026-02-01")

    assert expired([january], at("2026-02-01T00:00Z")) == [january]
    assert expired([january], at("2026-01-31T23:59:59Z")) == []


def test_open_ended_and_default_partitions_never_leave() -> None:
    open_ended = Partition("public", "later", at("2020-01-01T00:00Z"), None, False)
    default = Partition("public", "rest", None, None, False, is_default=True)

    assert expired([open_ended, default], at("2099-01-01T00:00Z")) == []


def test_runway_ends_at_the_first_gap() -> None:
    now = at("2026-01-16T00:00Z")
    run = [month("2026-01-01", "2026-02-01"), month("2026-02-01", "2026-03-01")]
    beyond_a_gap = month("2026-04-01", "2026-05-01")

    assert runway_days([*run, beyond_a_gap], now) == 44.0


def test_runway_is_nothing_without_the_current_month() -> None:
    now = at("2026-01-16T12:00Z")

    assert runway_days([], now) == 0.0
    assert runway_days([month("2026-02-01", "2026-03-01")], now) == 0.0
    assert runway_days([month("2026-01-01", "2026-02-01", pending=True)], now) == 0.0


def test_runway_of_an_open_end_is_a_number() -> None:
    assert runway_days([Partition("public", "all", None, None, False)], at("2026-01-01T00:00Z")) > 365_000
