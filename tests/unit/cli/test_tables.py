"""Tables and durations for people."""

from __future__ import annotations

import pytest
from click import unstyle

from sessionfleet import Event
from workers.cli.event_lines import line
from workers.cli.tables import duration, instant, plain, table


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table(["A", "LONG", "LAST"], [["wide", "x", "free text"]]) == "A     LONG  LAST\nwide  x     free text"


def test_a_row_is_one_line_whatever_a_sender_wrote() -> None:
    assert table(["A", "B"], [["x\ny", "\x1b[31mred\u2028\x9b"]]) == "A     B\nx\\ny  \\x1b[31mred\\u2028\\x9b"
    assert plain("na\u00efve \U0001f468\u200d\U0001f469\u00a0\\n") == "na\u00efve \U0001f468\u200d\U0001f469\u00a0\\n"


def test_an_event_is_one_line_whatever_its_sender_wrote() -> None:
    event = Event.of(
        {"event_name": "a\nb", "seq": 1, "session_id": "s", "payload": {"reason": "x\ny\x1b[2J", "k\r": [1]}}
    )
    assert unstyle(line(event, with_session=False)).split() == ["#1", "a\\nb", "reason=x\\ny\\x1b[2J", "k\\r=[1]"]


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
