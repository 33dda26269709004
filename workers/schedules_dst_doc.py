"""docs/schedules-dst.md, computed by the recurrence itself: ``python -m workers.schedules_dst_doc``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from reviews.occurrences import occurrences
from reviews.rule import Rule
from reviews.zones import zone

PAGE = Path(__file__).parent.parent / "docs" / "schedules-dst.md"

_INTRO = """# When schedules fire: clock changes, month ends, both day fields

Computed by `python -m workers.schedules_dst_doc`; a test fails when it is out of date. Do not edit.

Local times carry their offset from UTC. In Europe/Berlin the clock jumps from 02:00 to 03:00 on 2025-03-30
and shows 02:00 to 02:59 twice on 2025-10-26.
"""

_WORDS = """## The rules

- `dst_gap` is for a wall time the clock jumps over: `shift` (default) moves it by the length of the jump,
  `next_valid` takes the first instant after it, `skip` leaves the day out.
- `dst_overlap` is for a wall time the clock shows twice: the `first` (default), the `last`, `both` or `none`.
- A cron expression that also fires in the hour after the change goes on hour by hour and keeps its real
  spacing: it fires in each real minute whose wall time matches, and the two policies have no say.
- An interval runs in UTC and hears of no change.
- With day of month and weekday both restricted, `day_mode` must say `and` or `or`.
"""

_BERLIN = "Europe/Berlin"


def _at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


def _cron(expression: str, timezone: str = _BERLIN) -> Rule:
    return Rule(schedule_type="cron", cron_expression=expression, timezone=timezone)


def page() -> str:
    """The whole page."""
    return "\n".join([_INTRO, *(line for part in _parts() for line in part), _WORDS])


def _parts() -> Iterator[list[str]]:
    half_past_two, spring, autumn = _cron("30 2 * * *"), _at(2025, 3, 28, 12), _at(2025, 10, 24, 12)
    yield _part(
        "`30 2 * * *` in Europe/Berlin over the jump of 2025-03-30, by `dst_gap`",
        _varied(half_past_two, "dst_gap", "shift", "next_valid", "skip"),
        (spring, _at(2025, 3, 31, 12)),
    )
    yield _part(
        "`30 2 * * *` in Europe/Berlin over the repeated hour of 2025-10-26, by `dst_overlap`",
        _varied(half_past_two, "dst_overlap", "first", "last", "both", "none"),
        (autumn, _at(2025, 10, 27, 12)),
    )
    yield _part(
        "`*/30 * * * *` in Europe/Berlin over the repeated hour: each 30 real minutes, whatever `dst_overlap` says",
        _varied(_cron("*/30 * * * *"), "dst_overlap", "first", "last", "both", "none"),
        (_at(2025, 10, 25, 23, 15), _at(2025, 10, 26, 2)),
    )
    yield _part(
        "`*/30 * * * *` in Europe/Berlin over the jump: each 30 real minutes, whatever `dst_gap` says",
        _varied(_cron("*/30 * * * *"), "dst_gap", "shift", "next_valid", "skip"),
        (_at(2025, 3, 29, 23, 45), _at(2025, 3, 30, 2)),
    )
    yield _part(
        "`0 */2 * * *` in Europe/Berlin over the repeated hour: not at 03:00, so `dst_overlap` decides",
        _varied(_cron("0 */2 * * *"), "dst_overlap", "first", "last", "both"),
        (_at(2025, 10, 25, 21), _at(2025, 10, 26, 3)),
    )
    yield _part(
        "`0 0 13 * 5` in UTC from 2025-05-01 to 2025-06-20: the 13th and Fridays, by `day_mode`",
        _varied(_cron("0 0 13 * 5", "UTC"), "day_mode", "and", "or"),
        (_at(2025, 5, 1), _at(2025, 6, 20)),
    )
    vienna = Rule(
        schedule_type="biweekly", hour=9, timezone="Europe/Vienna", anchor_date=date(2025, 3, 17), weekday=1
    )
    yield _part(
        "Biweekly, Mondays at 09:00 in Europe/Vienna from 2025-03-17",
        [("biweekly", vienna)],
        (_at(2025, 3, 1), _at(2025, 4, 30)),
    )
    dubai = Rule(schedule_type="daily", timezone="Asia/Dubai")
    yield _part(
        "Daily in Asia/Dubai, by default at 00:00", [("daily", dubai)], (_at(2025, 1, 1), _at(2025, 1, 3, 23))
    )
    yield _part(
        "Monthly on the 31st at 00:00 in UTC, by `month_end`",
        _varied(Rule(schedule_type="monthly", day=31), "month_end", "clamp", "skip"),
        (_at(2025, 1, 1), _at(2025, 7, 1)),
    )
    business = Rule(schedule_type="monthly", last_business_day=True, hour=17, timezone="Europe/Berlin")
    yield _part(
        "Monthly on the last business day at 17:00 in Europe/Berlin",
        [("no blackouts", business), ("blackouts 12-24/01-01", replace(business, blackouts=("12-24/01-01",)))],
        (_at(2025, 10, 1), _at(2026, 1, 1)),
    )
    howe = Rule(schedule_type="daily", hour=2, minute=15, timezone="Australia/Lord_Howe")
    yield _part(
        "Daily at 02:15 in Australia/Lord_Howe, where the jump of 2025-10-05 is half an hour long, by `dst_gap`",
        _varied(howe, "dst_gap", "shift", "next_valid", "skip"),
        (_at(2025, 10, 4, 12), _at(2025, 10, 6)),
    )


def _varied(rule: Rule, name: str, *values: Any) -> list[tuple[str, Rule]]:
    return [(str(value), replace(rule, **{name: value})) for value in values]


def _part(title: str, rules: Sequence[tuple[str, Rule]], span: tuple[datetime, datetime]) -> list[str]:
    """One table: a row for each instant at which any of the rules has a slot, a column for each rule."""
    slots = [set(occurrences(rule, *span)) for _, rule in rules]
    local = zone(rules[0][1].timezone)
    names = ["local", "UTC", *(name for name, _ in rules)]
    lines = [f"## {title}", "", f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    for slot in sorted(set().union(*slots)):
        marks = ["fires" if slot in found else "-" for found in slots]
        shown = slot.astimezone(local).isoformat(sep=" ", timespec="minutes")
        lines.append(f"| {' | '.join([shown, f'{slot:%Y-%m-%d %H:%M}', *marks])} |")
    return [*lines, ""]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
