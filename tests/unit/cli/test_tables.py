"""Tables and durations for people."""

from __future__ import annotations

import pytest

from workers.cli.tables import duration, instant, table


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table(["A", "LONG", "LAST"], [["wide", "x", "free text"]]) == "A     LONG  LAST\nwide  x     free text"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0233, "23 ms"),
        (1, "1 s"),
        (2.5, "2.5 s"),
        (60, "1 min"),
        (90, "1 min 30 s"),
        (3600, "1 h"),
        (9000, "2 h 30 min"),
        (86400, "1 d"),
        (90061, "1 d 1 h"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_an_instant_is_shown_to_the_second() -> None:
    assert instant("2026-03-29T12:00:05.123456+00:00") == "2026-03-29 12:00:05"
    assert instant(None) == "-"
