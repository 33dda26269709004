"""Every clock change of 2020-2040 in many zones, against a clock read minute by minute (AT-H2, H-05)."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import product

import pytest

from reviews import zones
from reviews.cron import parse
from reviews.occurrences import next_after, occurrences
from reviews.rule import Rule
from tests.support.wall_clock import MINUTE, WallClock, changes

START, END = datetime(2020, 1, 1, tzinfo=UTC), datetime(2041, 1, 1, tzinfo=UTC)

ZONES = (
    # Europe and the Atlantic, changes at midnight and at the end of a day among them
    *("Europe/Berlin", "Europe/London", "Europe/Chisinau", "Europe/Volgograd", "Atlantic/Azores"),
    *("America/Nuuk", "America/Scoresbysund", "Europe/Dublin"),
    # America
    *("America/New_York", "America/St_Johns", "America/Havana", "America/Asuncion", "America/Santiago"),
    *("America/Mexico_City", "America/Ciudad_Juarez", "America/Whitehorse", "America/Port-au-Prince"),
    *("America/Vancouver", "America/Miquelon", "Pacific/Easter"),
    # Africa and Asia, changes that follow the moon among them
    *("Africa/Casablanca", "Africa/El_Aaiun", "Africa/Cairo", "Africa/Juba", "Asia/Beirut", "Asia/Gaza"),
    *("Asia/Jerusalem", "Asia/Amman", "Asia/Damascus", "Asia/Tehran", "Asia/Almaty", "Asia/Dubai"),
    # Half an hour, a quarter, two and three hours; around the date line
    *("Australia/Lord_Howe", "Australia/Adelaide", "Pacific/Chatham", "Pacific/Auckland", "Pacific/Norfolk"),
    *("Pacific/Fiji", "Antarctica/Troll", "Antarctica/Casey", "Antarctica/Vostok", "Pacific/Apia"),
)
GAPS: tuple[zones.Gap, ...] = ("shift", "next_valid", "skip")
OVERLAPS: tuple[zones.Overlap, ...] = ("first", "last", "both", "none")
CRONS = ("*/30 * * * *", "7 * * * *", "*/20 0-6 * * *", "15 */2 * * *", "0,59 2,23 * * *", "*/10 0-2,22-23 * * *")

AROUND = timedelta(hours=28)
MARGIN = timedelta(hours=3)
"""A gap may move a time out of what was read of the clock, or into it."""


@pytest.mark.parametrize("name", ZONES)
def test_each_time_of_day_and_each_policy_around_each_change(name: str) -> None:
    tz = zones.zone(name)
    for n, change in enumerate(changes(tz, START, END)):
        clock = WallClock(tz, change - AROUND, change + AROUND)
        before, after = ((change + step).astimezone(tz).replace(tzinfo=None) for step in (-MINUTE, timedelta(0)))
        low, high = sorted((before + MINUTE, after))
        day = low.date()
        policies = list(zip(GAPS + GAPS[:1], OVERLAPS, strict=True))
        inside = (low, low + (high - low) // 3 // MINUTE * MINUTE, high - MINUTE)
        turns = [(low - MINUTE, policies[n % 4]), (high, policies[n % 4]), *product(inside, policies)]
        for wall, (gap, overlap) in turns:
            rule = Rule(
                schedule_type="daily",
                hour=wall.hour,
                minute=wall.minute,
                timezone=name,
                dst_gap=gap,
                dst_overlap=overlap,
            )
            compare(rule, clock, day, [(wall.hour, wall.minute)])
        gap, overlap = GAPS[n % 3], OVERLAPS[n % 4]
        for expression in CRONS[n % 2 :: 2]:
            rule = Rule(
                schedule_type="cron", cron_expression=expression, timezone=name, dst_gap=gap, dst_overlap=overlap
            )
            cron = parse(expression)
            compare(rule, clock, day, list(product(cron.hours, cron.minutes)), cron.hours)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("America/St_Johns", "2010-03-14T03:31"),
        ("America/St_Johns", "2010-11-07T02:31"),
        ("America/St_Johns", "1988-04-03T03:31"),
        ("America/Toronto", "1919-03-31T04:30"),
        ("Pacific/Apia", "2011-12-30T10:00"),
        ("America/Nuuk", "2025-03-30T01:00"),
    ],
)
@pytest.mark.parametrize(
    "expression", ["35,40 0,23 * * *", "0,15 0 * * *", "15 23 * * SAT", "59 23,5 * * *", "*/30 * * * *", "0 0 30 * *"]
)
def test_changes_in_the_middle_of_midnight(name: str, change: str, expression: str) -> None:
    """Clocks that went over midnight, back to the day before, or left a whole day out; any minute as a bound."""
    at = datetime.fromisoformat(change).replace(tzinfo=UTC)
    clock = WallClock(zones.zone(name), at - AROUND, at + AROUND)
    cron = parse(expression)
    days = {wall.date() for _, wall in clock.shown} | {date(2011, 12, 30)}
    firing = sorted(day for day in days if day.day in cron.days_in(day.year, day.month, None))
    for gap, overlap in zip(GAPS + GAPS[:1], OVERLAPS, strict=True):
        rule = Rule(schedule_type="cron", cron_expression=expression, timezone=name, dst_gap=gap, dst_overlap=overlap)
        slots = clock.slots(firing, list(product(cron.hours, cron.minutes)), gap, overlap, cron.hours)
        bounds = [at + n * timedelta(minutes=7) for n in range(-20, 21)]
        for after, until in product(bounds, (bounds[0], bounds[13], at, bounds[-1])):
            assert list(occurrences(rule, after, until)) == [slot for slot in slots if after < slot <= until], rule


def compare(
    rule: Rule, clock: WallClock, day: date, times: list[tuple[int, int]], hours: tuple[int, ...] = ()
) -> None:
    days = [day + timedelta(days=n) for n in range(-2, 3)]
    slots = clock.slots(days, times, rule.dst_gap, rule.dst_overlap, hours)
    after, until = clock.shown[0][0] + MARGIN, clock.shown[-1][0] - MARGIN
    expected = [slot for slot in slots if after < slot <= until]
    assert list(occurrences(rule, after, until)) == expected, rule
    if expected:
        middle = expected[len(expected) // 2]
        assert next_after(rule, middle - MINUTE / 60) == middle, rule


def test_the_zones_are_many_and_their_changes_are_of_every_kind() -> None:
    jumps = set()
    for name in ZONES:
        tz = zones.zone(name)
        for change in changes(tz, START, END):
            offsets = [(change + step).astimezone(tz).utcoffset() for step in (timedelta(0), -MINUTE)]
            assert offsets[0] is not None
            assert offsets[1] is not None
            jumps.add((offsets[0] - offsets[1]) // MINUTE)
    assert len(ZONES) == len(set(ZONES)) >= 30
    assert {30, 60, 120, -30, -60, -120} <= jumps
