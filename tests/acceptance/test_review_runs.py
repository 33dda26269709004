"""Runs of reviews through real workers: session, report, retries, lost workers, copies (H-06, H-10..H-14)."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from tests.support import RunningFleet
from tests.support.private import private_fleets
from tests.support.scheduling import create, dispatch, ended, get, history, ledger, rewind, run, waiting

TAKE_AWAY = "REVOKE SELECT ON session_transitions FROM sessionfleet_app"
GIVE_BACK = "GRANT SELECT ON session_transitions TO sessionfleet_app"
FAILED_EVENTS = """
    SELECT payload FROM session_events
    WHERE event_name = 'schedule.failed' AND payload ->> 'schedule_id' = :id
"""
BACK = """
    UPDATE schedule_executions SET not_before = now(), publish_at = now()
    WHERE schedule_id = :id AND status = 'queued'
"""


@pytest.fixture(scope="module")
def broken() -> Iterator[RunningFleet]:
    """A fleet for the tests that take something away from it."""
    with private_fleets() as make:
        yield make(maintenance=1, relay=0)


def trigger(fleet: RunningFleet, schedule: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    answer: dict[str, Any] = fleet.call("schedule.trigger", schedule_id=schedule["schedule_id"], **arguments)
    return answer


def events(fleet: RunningFleet, session_id: str) -> list[tuple[str, dict[str, Any]]]:
    items = fleet.call("session.get_events", session_id=session_id, limit=100)["items"]
    return [(one["event_name"], one["payload"]) for one in items]


def test_a_run_is_a_session_that_says_which_slot_it_is_and_ends_with_the_report(fleet: RunningFleet) -> None:
    schedule = create(fleet, owner_id="runner", priority="high")
    rewind(fleet, schedule, 1)
    dispatch(fleet)
    slot = ended(fleet, schedule)
    session = fleet.call("session.get", session_id=slot["session_id"])
    assert (session["status"], session["session_type"]) == ("completed", "scheduled")
    assert (session["owner_id"], session["priority"]) == ("runner", "high")
    which = {
        "schedule_id": schedule["schedule_id"],
        "execution_id": slot["execution_id"],
        "kind": "scheduled",
        "nominal_utc": slot["nominal_utc"],
        "attempt": 1,
    }
    assert session["metadata"] == which
    assert session["context"]["review"] == slot["result"]
    told = dict(events(fleet, slot["session_id"]))
    assert list(told) == [
        "session.created",
        "session.started",
        "schedule.fired",
        "session.updated",
        "schedule.completed",
        "session.completed",
    ]
    assert told["schedule.fired"] == which
    assert told["schedule.completed"] == {**which, "result": slot["result"]}


def test_a_triggered_run_starts_at_once_paused_or_not_and_moves_no_slot(fleet: RunningFleet) -> None:
    schedule = create(fleet, owner_id="trigger", enabled=False)
    asked = trigger(fleet, schedule)
    assert asked["execution_id"].startswith("ondemand_")
    assert len(asked["execution_id"]) == len("ondemand_") + 8
    assert (asked["status"], asked["priority"], asked["kind"]) == ("queued", "high", "on_demand")
    slot = ended(fleet, schedule)
    assert (slot["execution_id"], slot["status"]) == (asked["execution_id"], "success")
    assert fleet.call("session.get", session_id=slot["session_id"])["session_type"] == "on_demand"
    found = get(fleet, schedule)
    assert (found["next_run"], found["run_count"]) == (schedule["next_run"], 1)
    assert datetime.fromisoformat(slot["started_at"]) - datetime.fromisoformat(slot["queued_at"]) < timedelta(
        seconds=5
    )


def test_a_repeated_trigger_with_one_key_runs_once(fleet: RunningFleet) -> None:
    schedule = create(fleet, owner_id="trigger-once")
    first = trigger(fleet, schedule, idempotency_key="trigger-once")
    again = trigger(fleet, schedule, idempotency_key="trigger-once")
    assert again["execution_id"] == first["execution_id"]
    ended(fleet, schedule)
    assert len(ledger(fleet, schedule)) == 1


def test_the_report_counts_what_the_owner_s_sessions_did_since_the_last(fleet: RunningFleet) -> None:
    mine = {"owner_id": "digest", "status": "active"}
    schedule = create(fleet, owner_id="digest")
    one, two, three, four, five = (
        fleet.call("session.create", **mine, account_ids=["a", f"b{n}"])["id"] for n in range(5)
    )
    fleet.call("session.create", owner_id="somebody-else", status="active")
    fleet.call("session.complete", session_id=one)
    fleet.call("session.fail", session_id=two, error="no")
    fleet.call("session.crash", session_id=three)
    run(fleet, "UPDATE sessions SET last_activity = now() - interval '2 hours' WHERE id = :id", id=four)
    run(fleet, "UPDATE sessions SET expires_at = now() + interval '30 seconds' WHERE id = :id", id=five)
    trigger(fleet, schedule)
    report = ended(fleet, schedule)["result"]
    assert report["since"] is None
    assert report["sessions"] == {
        "total": 5,
        "by_status": {"active": 1, "completed": 1, "crashed": 1, "expired": 1, "failed": 1},
    }
    assert report["since_last"] == {
        "created": 5,
        "completed": 1,
        "terminated": 0,
        "failed": 1,
        "expired": 1,
        "crashed": 1,
        "recovered": 0,
        "touched": 5,
    }
    assert (report["accounts"], history(fleet, schedule)[0]["accounts_processed"]) == (6, 6)
    assert report["at_risk"]["count"] == 1
    [risk] = report["at_risk"]["items"]
    assert (risk["id"], 0 < risk["seconds_left"] <= 30) == (five, True)
    fleet.call("session.terminate", session_id=five)
    fleet.call("maintenance.cleanup_stale")  # ends the overdue one: it was counted already
    trigger(fleet, schedule)
    waiting(lambda: get(fleet, schedule)["run_count"] == 2)
    second = ended(fleet, schedule)["result"]
    assert second["since"] == report["until"]
    assert second["since_last"] == {
        "created": 0,
        "completed": 0,
        "terminated": 1,
        "failed": 0,
        "expired": 0,
        "crashed": 0,
        "recovered": 0,
        "touched": 1,
    }
    assert second["sessions"]["total"] == 5


def test_a_slot_that_comes_while_a_run_is_not_over_is_skipped_as_overlap(fleet: RunningFleet) -> None:
    schedule = create(fleet, interval_minutes=60)
    park(fleet, schedule, "running")
    rewind(fleet, schedule, 1)
    dispatch(fleet)
    assert [(row.status, row.reason) for row in ledger(fleet, schedule)][1] == ("skipped", "overlap")
    refused = trigger(fleet, schedule, override_overlap=False)
    assert (refused["status"], refused["reason"]) == ("skipped", "overlap")
    allowed = trigger(fleet, schedule)
    assert allowed["status"] == "queued"


def test_copies_of_a_message_run_nothing_twice(fleet: RunningFleet) -> None:
    schedule = create(fleet)
    asked = trigger(fleet, schedule)
    ended(fleet, schedule)
    again = fleet.call("schedule.run_review", execution_id=asked["execution_id"])
    assert again == {"execution_id": asked["execution_id"], "ran": False, "status": None, "session_id": None}
    unknown = fleet.call("schedule.run_review", execution_id="exec_unknown")
    assert unknown["ran"] is False
    [slot] = history(fleet, schedule)
    assert (slot["attempt"], len(slot["attempts"])) == (1, 1)


def test_a_run_nobody_started_is_sent_again(fleet: RunningFleet) -> None:
    """As after a crash between commit and send, or a broker that lost its data."""
    schedule = create(fleet)
    park(fleet, schedule, "queued")
    dispatch(fleet)
    assert [row.status for row in ledger(fleet, schedule)] == ["queued"]
    run(fleet, BACK, id=schedule["schedule_id"])
    assert dispatch(fleet)["published"] >= 1
    assert ended(fleet, schedule)["status"] == "success"


def with_a_session(fleet: RunningFleet, **arguments: Any) -> dict[str, Any]:
    """A schedule whose review has something to read of what TAKE_AWAY takes away."""
    schedule = create(fleet, **arguments)
    fleet.call("session.create", owner_id=schedule["owner_id"])
    return schedule


def test_a_failing_run_is_tried_again_later_and_succeeds_at_the_third_try(broken: RunningFleet) -> None:
    fleet = broken
    schedule = with_a_session(fleet, retry_delay_minutes=5)
    run(fleet, TAKE_AWAY)
    trigger(fleet, schedule)
    for attempt, minutes in ((1, 5), (2, 10)):
        waiting(lambda attempt=attempt: waits_again(fleet, schedule, attempt))
        [row] = ledger(fleet, schedule)
        failed_at = datetime.fromisoformat(history(fleet, schedule)[0]["attempts"][-1]["ended_at"])
        assert timedelta(minutes=minutes) <= row.not_before - failed_at <= timedelta(minutes=minutes * 1.1, seconds=1)
        if attempt == 2:
            run(fleet, GIVE_BACK)
        run(fleet, BACK, id=schedule["schedule_id"])
        dispatch(fleet)
    slot = ended(fleet, schedule)
    assert (slot["status"], slot["attempt"], slot["error_message"]) == ("success", 3, None)
    assert [one["status"] for one in slot["attempts"]] == ["failed", "failed", "success"]
    assert "session_transitions" in slot["attempts"][0]["error_message"]
    first = fleet.call("session.get", session_id=slot["attempts"][0]["session_id"])
    assert (first["status"], "session_transitions" in first["error_message"]) == ("failed", True)


def test_a_run_that_always_fails_ends_failed_with_one_event(broken: RunningFleet) -> None:
    fleet = broken
    schedule = with_a_session(fleet, max_retries=1)
    run(fleet, TAKE_AWAY)
    trigger(fleet, schedule)
    waiting(lambda: waits_again(fleet, schedule, 1))
    run(fleet, BACK, id=schedule["schedule_id"])
    dispatch(fleet)
    slot = ended(fleet, schedule)
    run(fleet, GIVE_BACK)
    assert (slot["status"], slot["attempt"]) == ("failed", 2)
    found = get(fleet, schedule)
    assert (found["last_status"], found["run_count"]) == ("failed", 1)
    with fleet.engine.connect() as db:
        [event] = db.execute(text(FAILED_EVENTS), {"id": schedule["schedule_id"]}).all()
    assert event.payload["execution_id"] == slot["execution_id"]
    assert event.payload["error"] == slot["error_message"]


def test_failures_in_a_row_pause_a_schedule_that_asked_for_it(broken: RunningFleet) -> None:
    fleet = broken
    schedule = with_a_session(fleet, max_retries=0, pause_after_failures=2)
    run(fleet, TAKE_AWAY)
    for count in (1, 2):
        assert get(fleet, schedule)["enabled"]
        rewind(fleet, schedule, 1)
        dispatch(fleet)
        waiting(lambda count=count: get(fleet, schedule)["run_count"] == count)
    run(fleet, GIVE_BACK)
    paused = get(fleet, schedule)
    assert (paused["enabled"], paused["pause_note"]) == (False, "2 runs in a row failed")
    resumed = fleet.call("schedule.resume", schedule_id=schedule["schedule_id"])
    assert (resumed["enabled"], resumed["failures_in_row"]) == (True, 0)


def test_a_run_whose_worker_was_killed_is_tried_again(broken: RunningFleet) -> None:
    fleet = broken
    schedule = create(fleet)
    with fleet.engine.begin() as db:
        db.execute(text("LOCK TABLE session_transitions IN ACCESS EXCLUSIVE MODE"))
        trigger(fleet, schedule)
        waiting(lambda: ledger(fleet, schedule)[0].status == "running" and blocked(fleet))
        [worker] = fleet.of("maintenance")
        worker.kill_group(signal.SIGKILL)
        worker.wait(10)
    fleet.start("maintenance")
    assert dispatch(fleet)["lost"] == 0  # its lease has not run out
    expire_leases(fleet)
    assert dispatch(fleet)["lost"] == 1
    slot = ended(fleet, schedule)
    assert (slot["status"], slot["attempt"]) == ("success", 2)
    assert [one["status"] for one in slot["attempts"]] == ["failed", "success"]
    assert "lost" in slot["attempts"][0]["error_message"]


def test_what_was_written_holds_after_a_restart_of_the_workers(broken: RunningFleet) -> None:
    """AT-H10: update, pause, resume, trigger and delete act within 5 s, and so they stand afterwards."""
    fleet = broken
    changed, paused, deleted = (create(fleet, interval_minutes=60) for _ in range(3))
    key = {"schedule_id": changed["schedule_id"]}
    fleet.call("schedule.update", **key, interval_minutes=30, priority="low")
    fleet.call("schedule.pause", schedule_id=paused["schedule_id"], note="until further notice")
    fleet.call("schedule.delete", schedule_id=deleted["schedule_id"])
    before = [get(fleet, one) for one in (changed, paused)]
    for process in (*fleet.of("sessions"), *fleet.of("maintenance")):
        fleet.restart(process)
    assert [get(fleet, one) for one in (changed, paused)] == before
    for schedule in (changed, paused):
        rewind(fleet, schedule, 1)
    dispatch(fleet)
    assert ended(fleet, changed)["priority"] == "low"
    assert [row.reason for row in ledger(fleet, paused)] == ["paused"]
    assert history(fleet, deleted) == []
    assert fleet.call("schedule.resume", schedule_id=paused["schedule_id"])["enabled"] is True
    trigger(fleet, changed)
    waiting(lambda: get(fleet, changed)["run_count"] == 2)
    newest = history(fleet, changed)[0]
    began, asked = (datetime.fromisoformat(newest[name]) for name in ("started_at", "queued_at"))
    assert (newest["kind"], began - asked < timedelta(seconds=5)) == ("on_demand", True)
    found = get(fleet, changed)
    assert found["last_run"] == newest["attempts"][0]["started_at"]
    assert found["next_run"] is not None


def park(fleet: RunningFleet, schedule: dict[str, Any], status: str) -> None:
    """A run of an hour ago that waits for its message or for its end."""
    run(
        fleet,
        """INSERT INTO schedule_executions
               (execution_id, schedule_id, kind, nominal_utc, status, priority, attempt, queued_at, not_before,
                publish_at, publishes, lease_expires_at)
           VALUES ('exec_parked_' || :id, :id, 'scheduled', now() - interval '1 hour', :status, 'medium', 0, now(),
                   now() - interval '1 hour',
                   CASE WHEN :status = 'queued' THEN now() + interval '1 hour' END, 1,
                   CASE WHEN :status = 'running' THEN now() + interval '1 hour' END)""",
        id=schedule["schedule_id"],
        status=status,
    )


def waits_again(fleet: RunningFleet, schedule: dict[str, Any], attempt: int) -> bool:
    [row] = ledger(fleet, schedule)
    return (row.status, row.attempt) == ("queued", attempt)


def expire_leases(fleet: RunningFleet) -> None:
    run(fleet, "UPDATE schedule_executions SET lease_expires_at = now() WHERE status = 'running'")


def blocked(fleet: RunningFleet) -> bool:
    """Whether a statement waits for a lock."""
    with fleet.engine.connect() as db:
        waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation IS NOT NULL")
        return db.execute(waits).scalar_one() > 0
