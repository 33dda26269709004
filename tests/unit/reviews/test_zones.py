"""Wall time to instants (H-05)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviews import zones

walls = st.datetimes(datetime(1971, 1, 1), datetime(2090, 1, 1))  # noqa: DTZ001
names = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia", "Africa/Monrovia", "Antarctica/Troll"]
)


@pytest.mark.parametrize(
    "name",
    ["", "berlin", "europe/berlin", "Mars/Olympus", "../../etc/passwd", "/etc/localtime", "Europe", "tzdata.zi"],
)
def test_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(zones.UnknownZone):
        zones.zone(name)


def test_every_zone_of_the_iana_can_be_had() -> None:
    for name in available_timezones() - {"localtime"}:
        assert zones.zone(name).key == name
    assert zones.zone("Europe/Berlin") is zones.zone("Europe/Berlin")


def test_the_release_of_the_rules_is_known() -> None:
    assert zones.TZDATA_VERSION[:2] == "20"


@given(walls, names)
def test_a_time_that_the_clock_shows_is_an_instant_that_shows_it(wall: datetime, name: str) -> None:
    tz = zones.zone(name)
    found = zones.instants(wall, tz, "skip", "both")
    assert [instant.astimezone(tz).replace(tzinfo=None, fold=0) for instant in found] == [wall] * len(found)
    assert list(found) == sorted(set(found))
    change = zones.change_at(wall, tz)
    assert len(found) == (1 if change is None else 0 if change.is_gap else 2)


@given(st.integers(-180, 180), st.sampled_from(["Pacific/Apia", "Europe/Berlin", "Australia/Lord_Howe"]))
def test_a_change_is_found_to_the_second(minutes: int, name: str) -> None:
    """Samoa left out all of 2011-12-30."""
    tz = zones.zone(name)
    starts = {
        "Pacific/Apia": (2011, 12, 30),
        "Europe/Berlin": (2025, 3, 30, 2),
        "Australia/Lord_Howe": (2025, 4, 6, 1, 30),
    }
    wall = datetime(*starts[name]) + timedelta(minutes=minutes)  # noqa: DTZ001
    change = zones.change_at(wall, tz)
    if change is None:
        return
    offsets = [(change.at + step).astimezone(tz).utcoffset() for step in (-timedelta(seconds=1), timedelta(0))]
    assert offsets == [change.before, change.after]
    jump = abs(change.after - change.before)
    assert change.end - jump <= wall < change.end


def test_a_day_that_was_left_out_is_moved_by_a_day() -> None:
    tz = zones.zone("Pacific/Apia")
    noon = datetime(2011, 12, 30, 12)  # noqa: DTZ001
    assert zones.instants(noon, tz, "shift") == (datetime(2011, 12, 30, 22, tzinfo=UTC),)
    assert zones.instants(noon, tz, "next_valid") == (datetime(2011, 12, 30, 10, tzinfo=UTC),)
    assert zones.instants(noon, tz, "skip") == ()


def test_the_offset_of_a_day_without_a_change() -> None:
    tz = zones.zone("Europe/Berlin")
    assert zones.steady_offset(datetime(2025, 3, 29), 24, tz) == timedelta(hours=1)  # noqa: DTZ001
    assert zones.steady_offset(datetime(2025, 3, 30), 24, tz) is None  # noqa: DTZ001
    assert zones.steady_offset(datetime(2025, 10, 26), 24, tz) is None  # noqa: DTZ001
