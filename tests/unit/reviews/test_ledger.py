"""What becomes of due slots: one late run, everything else a row with its reason (H-06..H-08)."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reviews.ledger import Plan, Policy, overlapping, plan
from reviews.rule import Rule

NOW = datetime(2026, 3, 29, 12, 0, tzinfo=UTC)
GRACE = timedelta(seconds=300)


def decide(next_run: datetime, seconds: int = 60, limit: int = 1000, **values: Any) -> Plan:
    names = {field.name for field in fields(Policy)}
    said = {name: value for name, value in values.items() if name in names}
    recurs = {name: value for name, value in values.items() if name not in names}
    rule = Rule(schedule_type="interval", interval_seconds=seconds, anchor=next_run, **recurs)
    return plan(rule, next_run, NOW, Policy(**{"grace": GRACE, **said}), limit)


def reasons(decided: Plan) -> list[str | None]:
    return [slot.reason for slot in decided.slots]


def ago(**units: float) -> datetime:
    return NOW - timedelta(**units)


def test_a_slot_that_is_due_runs() -> None:
    decided = decide(ago(seconds=1))
    assert reasons(decided) == [None]
    assert decided.next_run == NOW + timedelta(seconds=59)


def test_nothing_is_due_before_its_time() -> None:
    assert decide(NOW + timedelta(microseconds=1)).slots == []


def test_ten_minutes_down_is_one_late_run_and_nine_skipped() -> None:
    decided = decide(ago(minutes=9, seconds=30))
    assert Counter(reasons(decided)) == {None: 1, "coalesced": 4, "misfire": 5}
    assert reasons(decided)[-1] is None


def test_a_slot_later_than_the_grace_is_a_misfire() -> None:
    assert reasons(decide(ago(seconds=301), seconds=3600)) == ["misfire"]
    assert reasons(decide(ago(seconds=300), seconds=3600)) == [None]


def test_without_grace_a_slot_still_has_the_time_of_a_tick() -> None:
    assert reasons(decide(ago(seconds=4), grace=timedelta(0))) == [None]
    assert reasons(decide(ago(seconds=6), seconds=3600, grace=timedelta(0))) == ["misfire"]


def test_a_pause_is_recorded_slot_by_slot() -> None:
    assert reasons(decide(ago(minutes=9), enabled=False)) == ["paused"] * 10


def test_a_run_that_is_not_over_keeps_the_latest_from_starting() -> None:
    assert reasons(decide(ago(minutes=1), room=0)) == ["coalesced", "overlap"]


def test_a_backlog_beyond_the_limit_runs_nothing_and_stays_due() -> None:
    decided = decide(ago(minutes=9), limit=5)
    assert set(reasons(decided)) == {"coalesced", "misfire"}
    assert decided.next_run == ago(minutes=4)


def test_the_latest_of_a_backlog_runs_even_if_what_comes_behind_it_may_not() -> None:
    next_run: datetime | None = ago(seconds=1100)  # in two portions; the second is blacked out
    ran = []
    while next_run is not None and next_run <= NOW:
        decided = decide(next_run, seconds=1, blackouts=("2026-03-29T11:58:20/2026-03-29T13:00:00",))
        ran += [slot.nominal for slot in decided.slots if slot.reason is None]
        next_run = decided.next_run
    assert ran == [ago(seconds=101)]


def test_coalesce_says_which_late_slots_run() -> None:
    late = ago(minutes=3, seconds=30)
    assert reasons(decide(late, coalesce="earliest", room=9)) == [None, *["coalesced"] * 3]
    assert reasons(decide(late, coalesce="none", room=9)) == ["misfire"] * 4
    assert reasons(decide(late, coalesce="all", room=9)) == [None] * 4
    assert reasons(decide(ago(seconds=2), coalesce="none")) == [None]


def test_no_more_than_a_hundred_are_caught_up() -> None:
    decided = reasons(decide(ago(seconds=249), seconds=1, coalesce="all", room=1000))
    assert decided == ["coalesced"] * 150 + [None] * 100


def test_all_slots_within_the_grace_are_seen_together_whatever_the_portions() -> None:
    next_run: datetime | None = ago(seconds=120_000)
    ran = []
    while next_run is not None and next_run <= NOW:
        decided = decide(next_run, seconds=1, coalesce="earliest", grace=timedelta(days=1))
        ran += [slot.nominal for slot in decided.slots if slot.reason is None]
        next_run = decided.next_run
    assert ran == [ago(days=1)]


def test_a_slot_beyond_the_instances_or_the_runs_is_a_limit() -> None:
    late = ago(minutes=3, seconds=30)
    assert reasons(decide(late, coalesce="all", room=3, full="limit")) == [None, None, None, "limit"]
    assert reasons(decide(late, coalesce="all", room=9, left=2)) == [None, None, "limit", "limit"]
    assert reasons(decide(ago(seconds=1), left=0, room=0)) == ["limit"]


def test_each_slot_that_runs_takes_of_the_owner_s_capacity() -> None:
    late = ago(minutes=3, seconds=30)
    assert reasons(decide(late, coalesce="all", room=9, capacity=3)) == [None, None, None, "no_capacity"]
    assert reasons(decide(late, coalesce="all", room=2, capacity=3)) == [None, None, "overlap", "overlap"]


@pytest.mark.parametrize("overlap", ["cancel_other", "terminate_other"])
def test_of_several_slots_the_last_runs_where_others_make_way(overlap: str) -> None:
    late = ago(minutes=3, seconds=30)
    several = decide(late, coalesce="all", **overlapping(overlap, max_instances=1, active=1))
    assert reasons(several) == ["overlap", "overlap", "overlap", None]
    first = decide(late, coalesce="all", **overlapping("skip", max_instances=1, active=0))
    assert reasons(first) == [None, "overlap", "overlap", "overlap"]


def test_windows_and_blackouts_skip_and_jitter_moves_the_start_only() -> None:
    due = ago(seconds=1)  # a Sunday, 11:59:59
    assert reasons(decide(due, windows=("MON-FRI 00:00-24:00",))) == ["window"]
    assert reasons(decide(due, blackouts=("2026-03-29",))) == ["blackout"]
    waits = decide(due, seconds=86400, windows=("13:00-14:00",), window_policy="wait").slots[0]
    assert (waits.nominal, waits.start) == (due, NOW + timedelta(hours=1))
    one, other = (decide(due, jitter_seconds=50, schedule_id="s").slots[0] for _ in range(2))
    assert one == other
    assert one.start is not None
    assert due < one.start < due + timedelta(seconds=50)


def test_a_pause_outranks_everything_and_a_misfire_the_window() -> None:
    assert reasons(decide(ago(seconds=1), enabled=False, blackouts=("2026-03-29",), left=0)) == ["paused"]
    assert reasons(decide(ago(seconds=301), seconds=3600, blackouts=("2026-03-29",))) == ["misfire"]
    closed = {"blackouts": ("2026-03-29",), "windows": ("MON-FRI 00:00-24:00",)}
    assert reasons(decide(ago(seconds=1), **closed)) == ["blackout"]


@given(
    seconds=st.integers(1, 5000), late=st.integers(0, 100_000), limit=st.integers(1, 50), grace=st.integers(0, 86400)
)
def test_in_any_portions_each_slot_is_decided_once_and_at_most_the_latest_runs(
    seconds: int, late: int, limit: int, grace: int
) -> None:
    start = late % (seconds * 200)
    next_run: datetime | None = ago(seconds=start)
    seen = []
    while next_run is not None and next_run <= NOW:
        decided = decide(next_run, seconds, limit=limit, grace=timedelta(seconds=grace))
        seen += decided.slots
        next_run = decided.next_run
    nominal = [slot.nominal for slot in seen]
    assert nominal == [ago(seconds=start) + n * timedelta(seconds=seconds) for n in range(start // seconds + 1)]
    ran = [slot.nominal for slot in seen if slot.reason is None]
    in_time = (NOW - nominal[-1]).total_seconds() <= max(grace, 5)
    assert ran == ([nominal[-1]] if in_time else [])
