"""What schedules will do, would do and did, through real workers (H-04, H-18; AT-H2, AT-H11)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sessionfleet.errors import InvalidSchedule, ScheduleNotFound, ValidationFailed, VersionConflict
from tests.support import RunningFleet
from tests.support.scheduling import create, dispatch, history, ledger, rewind, run, waiting

BERLIN = {"timezone": "Europe/Berlin"}
DEFINITIONS: dict[str, dict[str, Any]] = {
    "daily": {"hour": 2, "minute": 30, **BERLIN},
    "weekly": {"weekday": 7, "hour": 2, **BERLIN},
    "biweekly": {"anchor_date": "2026-01-05", "hour": 9, **BERLIN},
    "monthly": {"day": 31, "hour": 9, "blackouts": ["12-24/12-31"], **BERLIN},
    "cron": {"cron_expression": "*/30 2-3 * * *", "windows": ["MON-FRI 00:00-24:00"], "jitter_seconds": 60, **BERLIN},
    "interval": {"interval_minutes": 95, "anchor": "2026-01-01T00:00:00Z"},
    "one_time": {"scheduled_time": "2027-10-31T02:30", **BERLIN},
}


def rewound(fleet: RunningFleet, minutes: float, **arguments: Any) -> dict[str, Any]:
    """A paused-by-distance schedule of one minute whose next slot was due that long ago."""
    schedule = create(fleet, interval_minutes=1, **arguments)
    rewind(fleet, schedule, minutes * 60)
    return schedule


def a_past(fleet: RunningFleet, **arguments: Any) -> tuple[dict[str, Any], datetime]:
    """A schedule of one minute whose next slot is far ahead, and an old slot of it."""
    schedule = create(fleet, interval_minutes=1, **arguments)
    run(
        fleet,
        "UPDATE scheduled_reviews SET next_run = :slot WHERE schedule_id = :id",
        id=schedule["schedule_id"],
        slot=datetime(2099, 1, 1, tzinfo=UTC),
    )
    return schedule, datetime(2026, 1, 1, tzinfo=UTC)


def backfill(fleet: RunningFleet, schedule: dict[str, Any], start: datetime, minutes: int, **more: Any) -> Any:
    end = start + timedelta(minutes=minutes)
    return fleet.call("schedule.backfill", schedule_id=schedule["schedule_id"], start=start, end=end, **more)


@pytest.mark.parametrize("schedule_type", DEFINITIONS)
def test_a_year_s_preview_is_what_simulate_says(fleet: RunningFleet, schedule_type: str) -> None:
    """AT-H11."""
    asked = {"definition": {"schedule_type": schedule_type, **DEFINITIONS[schedule_type]}, "year": 2027}
    seen = fleet.call("schedule.preview", limit=10000, **asked)
    found = fleet.call("schedule.simulate", limit=10000, **asked)
    assert seen["total"] > 0
    bare = [{name: value for name, value in slot.items() if name != "note"} for slot in seen["items"]]
    assert bare == found["items"]
    assert (seen["runs"], seen["skipped"]) == (found["runs"], found["skipped"])


def test_a_year_s_preview_of_a_stored_schedule_is_what_simulate_says(fleet: RunningFleet) -> None:
    """AT-H11."""
    schedule = create(fleet, interval_minutes=45)
    asked = {"schedule_id": schedule["schedule_id"], "year": 2027, "limit": 10000}
    seen, found = fleet.call("schedule.preview", **asked), fleet.call("schedule.simulate", **asked)
    assert [slot["nominal_utc"] for slot in seen["items"]] == [slot["nominal_utc"] for slot in found["items"]]


@pytest.mark.parametrize(
    ("policy", "skipped"),
    [
        ({}, {"misfire": 5, "coalesced": 4}),
        ({"coalesce": "earliest"}, {"misfire": 5, "coalesced": 4}),
        ({"coalesce": "all"}, {"misfire": 5, "overlap": 4}),
        ({"coalesce": "none"}, {"misfire": 10}),
        ({"coalesce": "all", "overlap": "buffer_one"}, {"misfire": 5, "overlap": 3}),
        ({"coalesce": "all", "overlap": "buffer_all"}, {"misfire": 5}),
        ({"coalesce": "all", "overlap": "cancel_other"}, {"misfire": 5, "overlap": 4}),
        ({"coalesce": "all", "overlap": "terminate_other"}, {"misfire": 5, "overlap": 4}),
        ({"coalesce": "all", "overlap": "allow_all", "max_instances": 2}, {"misfire": 5, "limit": 3}),
        ({"coalesce": "all", "overlap": "allow_all", "max_instances": 9, "max_runs": 4}, {"misfire": 5, "limit": 1}),
        ({"enabled": False}, {"paused": 10}),
    ],
)
def test_the_ledger_after_a_downtime_is_what_simulate_said(
    fleet: RunningFleet, policy: dict[str, Any], skipped: dict[str, int]
) -> None:
    """AT-H11, under each way to catch up and each overlap policy (H-07, H-09)."""
    schedule = rewound(fleet, 9.5, **policy)
    begin = datetime.fromisoformat(fleet.call("schedule.get", schedule_id=schedule["schedule_id"])["next_run"])
    found = fleet.call(
        "schedule.simulate",
        schedule_id=schedule["schedule_id"],
        start=begin,
        end=begin + timedelta(minutes=9.9),
        downtime=[{"start": begin, "end": begin + timedelta(minutes=9.5)}],
    )
    dispatch(fleet)
    waiting(lambda: len(ledger(fleet, schedule)) == 10)
    told = [(slot["nominal_utc"], slot["reason"]) for slot in found["items"]]
    assert told == [(slot.nominal_utc.astimezone(UTC).isoformat(), slot.reason) for slot in ledger(fleet, schedule)]
    assert found["skipped"] == skipped


def test_the_next_slots_in_utc_and_local_with_notes_about_the_clock(fleet: RunningFleet) -> None:
    """AT-H2."""
    daily = {"schedule_type": "daily", "hour": 2, "minute": 30, **BERLIN}
    found = fleet.call("schedule.next_run", definition=daily, after="2027-03-28T00:00", limit=2)
    assert found["items"][0]["nominal_utc"] == "2027-03-28T01:30:00+00:00"
    assert found["items"][0]["local"] == "2027-03-28T03:30:00+02:00"
    assert "jumps over" in found["items"][0]["note"]
    dubai = {"schedule_type": "daily", "timezone": "Asia/Dubai"}
    [slot] = fleet.call("schedule.next_run", definition=dubai, limit=1)["items"]
    assert datetime.fromisoformat(slot["nominal_utc"]).hour == 20
    schedule = create(fleet, interval_minutes=10)
    items = fleet.call("schedule.next_run", schedule_id=schedule["schedule_id"])["items"]
    assert len(items) == 10
    assert items[0]["nominal_utc"] == schedule["next_run"]


def test_views_refuse_what_does_not_fit(fleet: RunningFleet) -> None:
    with pytest.raises(InvalidSchedule, match="cron_expression"):
        fleet.call("schedule.preview", definition={"schedule_type": "cron", "cron_expression": "99 * * * *"})
    with pytest.raises(InvalidSchedule, match="hour"):
        fleet.call("schedule.next_run", definition={"schedule_type": "daily", "hour": 25})
    with pytest.raises(ValidationFailed, match="either schedule_id or definition"):
        fleet.call("schedule.next_run")
    with pytest.raises(ScheduleNotFound):
        fleet.call("schedule.simulate", schedule_id="schedule_none", year=2027)
    with pytest.raises(ScheduleNotFound):
        fleet.call("schedule.explain", schedule_id="schedule_none")
    with pytest.raises(ValidationFailed, match="366 days"):
        daily = {"schedule_type": "daily"}
        fleet.call("schedule.preview", definition=daily, start="2027-01-01T00:00", end="2029-01-01T00:00")


@pytest.mark.parametrize(
    "at", ["0001-01-01T00:00:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00"]
)
def test_times_at_the_ends_of_the_calendar_are_refused_by_name(fleet: RunningFleet, at: str) -> None:
    one = {"schedule_id": create(fleet)["schedule_id"]}
    spans = [{"start": at, "end": "2027-01-02T00:00:00Z"}]
    for task, field, arguments in (
        ("next_run", "after", {"after": at}),
        ("preview", "start", {"start": at}),
        ("preview", "end", {"start": "2027-01-01T00:00:00Z", "end": at}),
        ("simulate", "downtime.0.start", {"year": 2027, "downtime": spans}),
        ("explain", "at", {"at": at}),
        ("backfill", "start", {"start": at, "end": "2026-01-01T00:00:00Z"}),
    ):
        with pytest.raises(ValidationFailed) as caught:
            fleet.call(f"schedule.{task}", **one, **arguments)
        assert caught.value.details["fields"][0]["field"] == field


def test_an_end_that_is_no_instant_in_utc_is_refused_by_name(fleet: RunningFleet) -> None:
    for at in ("9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"):
        with pytest.raises(InvalidSchedule) as caught:
            create(fleet, end_at=at)
        assert caught.value.details["field"] == "end_at"
    assert create(fleet, end_at="9999-12-31T23:59:59Z")["end_at"] == "9999-12-31T23:59:59+00:00"


def explain(fleet: RunningFleet, schedule: dict[str, Any], at: Any = None) -> tuple[str, str]:
    given = {} if at is None else {"at": at}
    told = fleet.call("schedule.explain", schedule_id=schedule["schedule_id"], **given)
    return told["verdict"], told["sentence"]


def test_a_slot_is_explained_from_the_ledger_and_the_definition(fleet: RunningFleet) -> None:
    schedule = create(fleet, interval_minutes=1)
    assert explain(fleet, schedule)[0] == "no_slot_yet"
    rewind(fleet, schedule, 412)
    begin = datetime.fromisoformat(fleet.call("schedule.get", schedule_id=schedule["schedule_id"])["next_run"])
    dispatch(fleet)
    waiting(lambda: bool(ledger(fleet, schedule)))
    verdict, sentence = explain(fleet, schedule, begin)
    assert verdict == "skipped"
    assert "misfire, it was found 41" in sentence
    assert "coalesced" in explain(fleet, schedule, begin + timedelta(minutes=3))[1]
    waiting(lambda: explain(fleet, schedule, begin + timedelta(minutes=6))[0] == "ran")
    assert explain(fleet, schedule, begin + timedelta(minutes=600))[0] == "future"
    assert explain(fleet, schedule, begin - timedelta(minutes=600))[0] == "before_creation"
    verdict, sentence = explain(fleet, schedule, begin + timedelta(seconds=30.5))
    assert verdict == "not_a_slot"
    assert "before it" in sentence
    assert "after it" in sentence


def test_a_pause_is_named_with_its_beginning(fleet: RunningFleet) -> None:
    schedule = create(fleet, interval_minutes=1)
    fleet.call("schedule.pause", schedule_id=schedule["schedule_id"], note="moving house", actor="ada")
    rewind(fleet, schedule, 30)
    dispatch(fleet)
    waiting(lambda: bool(ledger(fleet, schedule)))
    verdict, sentence = explain(fleet, schedule)
    assert verdict == "skipped"
    assert "had been paused since" in sentence
    assert sentence.endswith("by ada: moving house.")


def test_an_overlap_is_named_with_the_run_in_the_way(fleet: RunningFleet) -> None:
    schedule, _ = a_past(fleet)
    run(fleet, BUSY, id=schedule["schedule_id"])
    rewind(fleet, schedule, 20)
    dispatch(fleet)
    waiting(lambda: len(ledger(fleet, schedule)) == 2)
    skipped = next(slot for slot in history(fleet, schedule) if slot["kind"] == "scheduled")
    told = fleet.call("schedule.explain", schedule_id=schedule["schedule_id"], at=skipped["nominal_utc"])
    assert "overlap with execution ondemand_busy" in told["sentence"]
    assert told["execution"]["reason"] == "overlap"


BUSY = """
    INSERT INTO schedule_executions (execution_id, schedule_id, kind, nominal_utc, status, priority, attempt,
        queued_at, not_before, publish_at, publishes)
    VALUES ('ondemand_busy' || :id, :id, 'on_demand', clock_timestamp(), 'queued', 'high', 0,
        clock_timestamp() - interval '1 minute', clock_timestamp() + interval '1 hour',
        clock_timestamp() + interval '1 hour', 0)
"""


def test_a_dry_backfill_writes_nothing(fleet: RunningFleet) -> None:
    """AT-H11."""
    schedule, begin = a_past(fleet)
    found = backfill(fleet, schedule, begin, 10)
    assert (found["dry_run"], found["changed"], found["found"], found["added"]) == (True, False, 10, 10)
    assert all(slot["execution_id"] is None for slot in found["items"])
    assert ledger(fleet, schedule) == []
    with fleet.engine.connect() as db:
        about = db.exec_driver_sql(
            "SELECT count(*) FROM audit_events WHERE action = 'schedule.backfill' AND resource = %s",
            (f"schedule:{schedule['schedule_id']}",),
        )
        assert about.scalar_one() == 0


def test_a_backfill_is_tagged_runs_and_never_doubles(fleet: RunningFleet) -> None:
    """AT-H11: twice, overlapping, and by many at once."""
    schedule, begin = a_past(fleet)
    found = backfill(fleet, schedule, begin, 3, dry_run=False)
    assert (found["added"], found["changed"], found["left_out"]) == (3, True, {})
    assert {slot["execution_id"].partition("_")[0] for slot in found["items"]} == {"backfill"}
    again = backfill(fleet, schedule, begin, 4, dry_run=False)
    assert (again["added"], again["left_out"]) == (1, {"backfill": 3})
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: backfill(fleet, schedule, begin, 6, dry_run=False), range(8)))
    assert sorted(answer["added"] for answer in answers) == [*[0] * 7, 2]
    dispatch(fleet)
    waiting(lambda: [slot.status for slot in ledger(fleet, schedule)] == ["success"] * 6, timeout=60)
    slots = ledger(fleet, schedule)
    assert [(slot.kind, slot.priority) for slot in slots] == [("backfill", "low")] * 6
    assert [slot.nominal_utc for slot in slots] == [begin + n * timedelta(minutes=1) for n in range(6)]
    session = fleet.call("session.get", session_id=str(slots[0].session_id))
    assert session["metadata"]["kind"] == "backfill"


def test_a_backfill_leaves_slots_of_the_ledger_alone(fleet: RunningFleet) -> None:
    """AT-H11, under each way to catch up and each overlap policy (H-07, H-09)."""
    schedule = rewound(fleet, 9.5)
    begin = datetime.fromisoformat(fleet.call("schedule.get", schedule_id=schedule["schedule_id"])["next_run"])
    due = backfill(fleet, schedule, begin, 9)
    assert due["left_out"] == {"unsettled": 9}
    dispatch(fleet)
    waiting(lambda: len(ledger(fleet, schedule)) == 10)
    found = backfill(fleet, schedule, begin - timedelta(minutes=1), 10, dry_run=False)
    assert (found["added"], found["left_out"]) == (1, {"skipped": 9})
    made_up = backfill(fleet, schedule, begin, 9, dry_run=False, include_skipped=True)
    assert made_up["added"] == 9
    kinds = [slot.kind for slot in ledger(fleet, schedule)]
    assert (kinds.count("scheduled"), kinds.count("backfill")) == (10, 10)


def test_a_backfill_knows_the_slots_of_an_interval_that_has_ended(fleet: RunningFleet) -> None:
    """AT-H11: also when its period was changed on the way."""
    schedule = create(fleet, interval_minutes=60)
    rewind(fleet, schedule, 130)
    ends = "UPDATE scheduled_reviews SET interval_minutes = 1, end_at = clock_timestamp() WHERE schedule_id = :id"
    run(fleet, ends, id=schedule["schedule_id"])
    dispatch(fleet)
    waiting(lambda: len(ledger(fleet, schedule)) == 3)
    found = backfill(fleet, schedule, ledger(fleet, schedule)[0].nominal_utc, 2, include_skipped=False)
    assert (found["added"], sum(found["left_out"].values())) == (0, 2)
    between = ledger(fleet, schedule)[0].nominal_utc + timedelta(seconds=30)
    told = fleet.call("schedule.explain", schedule_id=schedule["schedule_id"], at=between.isoformat())
    assert told["verdict"] == "not_a_slot"
    assert datetime.fromisoformat(told["before"]) == between - timedelta(seconds=30)


def test_a_backfill_refuses_what_it_cannot_keep(fleet: RunningFleet) -> None:
    schedule, begin = a_past(fleet)
    with pytest.raises(ValidationFailed, match="more than 1,000 slots"):
        backfill(fleet, schedule, begin, 1001)
    with pytest.raises(ValidationFailed, match="future"):
        backfill(fleet, schedule, datetime.now(UTC), 1)
    with pytest.raises(ValidationFailed, match="not after the begin"):
        backfill(fleet, schedule, begin, 0)
    with pytest.raises(VersionConflict):
        backfill(fleet, schedule, begin, 1, expected_version=7)
    assert ledger(fleet, schedule) == []
