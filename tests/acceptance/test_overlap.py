"""What a slot does while a run of its schedule is under way, through real workers (AT-H8, row H-09).

The runs have a handler on a queue that nobody reads: each is under way until the test ends it.
"""

from __future__ import annotations

from typing import Any

from tests.support import RunningFleet
from tests.support.scheduling import create, dispatch, get, history, ledger, rewind, run, waiting

HELD = {"handler": "tests.held", "handler_queue": "tests-held", "interval_minutes": 60, "max_retries": 0}


def states(fleet: RunningFleet, schedule: dict[str, Any]) -> list[str]:
    """Status of each slot, oldest first; of a skipped one its reason."""
    return [row.reason or row.status for row in ledger(fleet, schedule)]


def slot(fleet: RunningFleet, schedule: dict[str, Any]) -> None:
    """One slot that is due now, settled."""
    before = len(ledger(fleet, schedule))
    rewind(fleet, schedule, 0.5)
    dispatch(fleet)
    assert len(ledger(fleet, schedule)) == before + 1


def comes(fleet: RunningFleet, schedule: dict[str, Any], *expected: str) -> None:
    waiting(lambda: states(fleet, schedule) == list(expected))


def end(fleet: RunningFleet, schedule: dict[str, Any], number: int = 0, **how: Any) -> dict[str, Any]:
    """Ends the run under way of that number, oldest first, as its handler would."""
    going = [row for row in ledger(fleet, schedule) if row.status == "running"][number]
    how = how or {"status": "success", "result": {"seen": True}}
    answer: dict[str, Any] = fleet.call(
        "schedule.end_run", execution_id=going.execution_id, attempt=going.attempt, **how
    )
    return answer


def under_way(fleet: RunningFleet, **policy: Any) -> dict[str, Any]:
    """A schedule whose first run is under way, with its session."""
    schedule = create(fleet, **{**HELD, **policy})
    slot(fleet, schedule)
    waiting(lambda: ledger(fleet, schedule)[0].session_id is not None)
    assert states(fleet, schedule) == ["running"]
    return schedule


def test_skip_leaves_the_slot_out(fleet: RunningFleet) -> None:
    """AT-H8."""
    schedule = under_way(fleet)
    slot(fleet, schedule)
    assert states(fleet, schedule) == ["running", "overlap"]
    assert end(fleet, schedule)["accepted"]
    slot(fleet, schedule)
    comes(fleet, schedule, "success", "overlap", "running")
    assert get(fleet, schedule)["dropped"] == 0


def test_buffer_one_lets_one_slot_wait_and_drops_the_next(fleet: RunningFleet) -> None:
    """AT-H8."""
    schedule = under_way(fleet, overlap="buffer_one")
    slot(fleet, schedule)
    slot(fleet, schedule)
    assert states(fleet, schedule) == ["running", "queued", "overlap"]
    assert get(fleet, schedule)["dropped"] == 1
    end(fleet, schedule)
    comes(fleet, schedule, "success", "running", "overlap")
    end(fleet, schedule)
    comes(fleet, schedule, "success", "success", "overlap")


def test_buffer_all_runs_one_after_the_other_and_holds_1000(fleet: RunningFleet) -> None:
    """AT-H8."""
    schedule = under_way(fleet, overlap="buffer_all")
    for _ in range(3):
        slot(fleet, schedule)
    for number in range(3):
        comes(fleet, schedule, *["success"] * number, "running", *["queued"] * (3 - number))
        end(fleet, schedule)
    comes(fleet, schedule, "success", "success", "success", "running")
    run(fleet, FILL, id=schedule["schedule_id"], count=999)
    slot(fleet, schedule)
    slot(fleet, schedule)
    found = states(fleet, schedule)
    assert (found.count("queued"), found.count("limit")) == (1000, 1)
    assert get(fleet, schedule)["dropped"] == 1
    fleet.call("schedule.delete", schedule_id=schedule["schedule_id"])


def test_cancel_other_asks_the_run_to_end_and_waits_for_it(fleet: RunningFleet) -> None:
    """AT-H8."""
    schedule = under_way(fleet, overlap="cancel_other")
    [first] = ledger(fleet, schedule)
    which = {"execution_id": first.execution_id, "attempt": 1}
    assert fleet.call("schedule.keep_run", **which)["go_on"] is True
    slot(fleet, schedule)
    assert states(fleet, schedule) == ["running", "queued"]
    assert fleet.call("schedule.keep_run", **which)["go_on"] is False
    end(fleet, schedule, status="failed", error="asked to end")
    comes(fleet, schedule, "failed", "running")
    session = fleet.call("session.get", session_id=str(first.session_id))
    assert (session["status"], get(fleet, schedule)["failures_in_row"]) == ("terminated", 0)
    names = [one["event_name"] for one in fleet.call("session.get_events", session_id=session["id"])["items"]]
    assert ("schedule.stopped" in names, "schedule.failed" in names) == (True, False)


def test_terminate_other_ends_the_run_and_starts_at_once(fleet: RunningFleet) -> None:
    """AT-H8: what the ended run still reports is not taken."""
    schedule = under_way(fleet, overlap="terminate_other", max_retries=3)
    [first] = ledger(fleet, schedule)
    slot(fleet, schedule)
    comes(fleet, schedule, "failed", "running")
    late = fleet.call("schedule.end_run", execution_id=first.execution_id, attempt=1, status="success")
    assert (late["accepted"], late["changed"]) == (False, False)
    assert fleet.call("schedule.keep_run", execution_id=first.execution_id, attempt=1)["go_on"] is False
    assert states(fleet, schedule) == ["failed", "running"]
    assert history(fleet, schedule)[1]["error_message"] == "ended for a later slot of the schedule"
    assert fleet.call("session.get", session_id=str(first.session_id))["status"] == "terminated"


def test_of_waiting_slots_only_the_last_follows_a_cancelled_run(fleet: RunningFleet) -> None:
    """AT-H8."""
    schedule = under_way(fleet, overlap="cancel_other")
    slot(fleet, schedule)
    slot(fleet, schedule)
    assert states(fleet, schedule) == ["running", "overlap", "queued"]
    end(fleet, schedule)
    comes(fleet, schedule, "success", "overlap", "running")


def test_allow_all_runs_them_beside_each_other_up_to_max_instances(fleet: RunningFleet) -> None:
    """AT-H8: max_instances 3 holds."""
    schedule = under_way(fleet, overlap="allow_all")
    for _ in range(3):
        slot(fleet, schedule)
    comes(fleet, schedule, "running", "running", "running", "limit")
    end(fleet, schedule, 1)
    slot(fleet, schedule)
    comes(fleet, schedule, "running", "success", "running", "limit", "running")


def test_backfilled_runs_are_in_nobody_s_way(fleet: RunningFleet) -> None:
    schedule = create(fleet, **HELD)
    run(fleet, FILL.replace("'scheduled'", "'backfill'"), id=schedule["schedule_id"], count=5)
    slot(fleet, schedule)
    waiting(lambda: "running" in states(fleet, schedule))
    fleet.call("schedule.delete", schedule_id=schedule["schedule_id"])


def test_an_owner_with_too_much_waiting_has_no_capacity(fleet: RunningFleet) -> None:
    """H-08: the reason is on the ledger."""
    busy = create(fleet, **HELD)
    run(fleet, FILL, id=busy["schedule_id"], count=10_000)
    schedule = create(fleet, owner_id=busy["owner_id"], interval_minutes=60)
    slot(fleet, schedule)
    assert states(fleet, schedule) == ["no_capacity"]
    told = fleet.call("schedule.explain", schedule_id=schedule["schedule_id"])["sentence"]
    assert "10,000 runs of its owner" in told
    fleet.call("schedule.delete", schedule_id=busy["schedule_id"])


FILL = """
    INSERT INTO schedule_executions (execution_id, schedule_id, kind, nominal_utc, status, priority, attempt,
        queued_at, not_before, publish_at, publishes)
    SELECT 'exec_fill_' || n || :id, :id, 'scheduled', now() + n * interval '1 day', 'queued', 'low', 0, now(),
        now() + interval '1 hour', now() + interval '1 hour', 0
    FROM generate_series(1, :count) AS n
"""
