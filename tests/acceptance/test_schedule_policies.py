"""What becomes of due slots under each policy, through real workers (AT-H6, AT-H8, AT-H12; H-07..H-09, H-17)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from sessionfleet.errors import InvalidSchedule, ValidationFailed
from tests.support import RunningFleet
from tests.support.scheduling import create, dispatch, ended, get, ledger, rewind, run, waiting

WAITS_LONG = """
    INSERT INTO schedule_executions (execution_id, schedule_id, kind, nominal_utc, status, priority, attempt,
        queued_at, not_before, publish_at, publishes)
    SELECT 'exec_waits_' || n || :id, :id, 'scheduled', now() - n * interval '1 day', 'queued', 'medium', 0, now(),
        now() + interval '1 hour', now() + interval '1 hour', 0
    FROM generate_series(1, :count) AS n
"""


def reasons(fleet: RunningFleet, schedule: dict[str, Any]) -> list[str | None]:
    return [row.reason for row in ledger(fleet, schedule)]


def others_wait(fleet: RunningFleet, schedule: dict[str, Any], count: int) -> None:
    """Runs of the schedule that wait for their start for an hour."""
    run(fleet, WAITS_LONG, id=schedule["schedule_id"], count=count)


def after(fleet: RunningFleet, seconds: float, **arguments: Any) -> list[str | None]:
    """The reasons of the slots of a schedule whose first one was due so long ago, one a minute."""
    schedule = create(fleet, **{"interval_minutes": 1, **arguments})
    rewind(fleet, schedule, seconds)
    dispatch(fleet)
    return reasons(fleet, schedule)


@pytest.mark.parametrize(
    ("coalesce", "expected"),
    [
        ("latest", ["coalesced"] * 3 + [None]),
        ("earliest", [None] + ["coalesced"] * 3),
        ("none", ["misfire"] * 4),
        ("all", [None] * 4),
    ],
)
def test_each_way_to_catch_up(fleet: RunningFleet, coalesce: str, expected: list[str | None]) -> None:
    assert after(fleet, 200, coalesce=coalesce, overlap="allow_all", max_instances=9) == expected


def test_a_blackout_and_a_closed_window_are_recorded(fleet: RunningFleet) -> None:
    assert after(fleet, 1, blackouts=["2020-01-01/2099-12-31"]) == ["blackout"]
    hour = datetime.fromisoformat(create(fleet)["created_at"]).hour
    away = f"{(hour + 6) % 24:02}:00-{(hour + 7) % 24:02}:00"
    assert after(fleet, 1, windows=[away]) == ["window"]


def test_overlap_is_skipped_unless_all_are_allowed_and_max_instances_holds(fleet: RunningFleet) -> None:
    for policy, count, expected in (
        ({}, 1, "overlap"),
        ({"overlap": "allow_all"}, 2, None),
        ({"overlap": "allow_all"}, 3, "limit"),
        ({"overlap": "allow_all", "max_instances": 4}, 3, None),
    ):
        schedule = create(fleet, interval_minutes=60, **policy)
        others_wait(fleet, schedule, count)
        rewind(fleet, schedule, 1)
        dispatch(fleet)
        assert reasons(fleet, schedule)[-1] == expected


def test_after_max_runs_there_is_no_further_run(fleet: RunningFleet) -> None:
    schedule = create(fleet, interval_minutes=60, max_runs=3)
    for _ in range(3):
        rewind(fleet, schedule, 1)
        dispatch(fleet)
        assert ended(fleet, schedule)["status"] == "success"
    rewind(fleet, schedule, 1)
    dispatch(fleet)
    assert reasons(fleet, schedule) == [None, None, None, "limit"]


def test_jitter_moves_the_start_within_its_bound_and_the_nominal_time_stays(fleet: RunningFleet) -> None:
    schedule = create(fleet, interval_minutes=60, jitter_seconds=2)
    rewind(fleet, schedule, 1)
    slot = get(fleet, schedule)["next_run"]
    dispatch(fleet)
    waiting(lambda: dispatch(fleet) is not None and ledger(fleet, schedule)[0].status == "success")
    [row] = ledger(fleet, schedule)
    assert row.nominal_utc == datetime.fromisoformat(slot)
    assert row.nominal_utc <= row.not_before < row.nominal_utc + timedelta(seconds=2)
    assert row.started_at >= row.not_before


def test_policies_are_kept_and_checked(fleet: RunningFleet) -> None:
    given = {
        "coalesce": "all",
        "overlap": "allow_all",
        "max_instances": 7,
        "max_runs": 5,
        "pause_after_failures": 2,
    }
    schedule = create(fleet, **given)
    assert {name: get(fleet, schedule)[name] for name in given} == given
    key = {"schedule_id": schedule["schedule_id"]}
    assert fleet.call("schedule.update", **key, max_runs=None, overlap="skip")["updates"] == ["max_runs", "overlap"]
    with pytest.raises(ValidationFailed):
        create(fleet, max_instances=101)
    with pytest.raises(InvalidSchedule):
        create(fleet, windows=["whenever"])
