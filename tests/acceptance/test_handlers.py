"""Reviews of other services: a plain Celery app in a process of its own (H-10, H-14)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from sessionfleet.errors import InvalidSchedule, PayloadTooLarge, ValidationFailed
from tests.support import RunningFleet
from tests.support.scheduling import create, dispatch, ended, get, ledger, run, waiting

EXAMPLES = Path(__file__).parents[2] / "docs/examples"


@contextmanager
def service(fleet: RunningFleet, queue: str) -> Iterator[subprocess.Popen[bytes]]:
    """The worker of the page's example, on a queue of the test."""
    environ = {"PATH": os.environ["PATH"], "FLEET_BROKER_URL": fleet.settings.broker_url}
    command = [sys.executable, "-m", "celery", "-A", "review_handler", "--quiet", "worker", "--pool", "solo"]
    options = ["-Q", queue, "--without-gossip", "--without-mingle", "-n", f"{queue}@%h", "-l", "ERROR"]
    process = subprocess.Popen(
        [*command, *options], cwd=EXAMPLES, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(10)


def handled(fleet: RunningFleet, **arguments: Any) -> dict[str, Any]:
    """A schedule with the example as its handler, on a queue of its own."""
    queue = f"audits-{uuid4().hex[:8]}"
    given = {"handler": "audits.nightly", "handler_queue": queue, "handler_timeout_seconds": 600, **arguments}
    return create(fleet, **given)


def trigger(fleet: RunningFleet, schedule: dict[str, Any]) -> None:
    fleet.call("schedule.trigger", schedule_id=schedule["schedule_id"])


def test_a_plain_celery_app_does_the_review_and_one_that_died_is_made_up_for(fleet: RunningFleet) -> None:
    schedule = handled(fleet)
    accounts = [{"account_id": "a", "risk_score": 1}, {"account_id": "b", "risk_score": 99}]
    fleet.call("schedule.assign", owner_id=schedule["owner_id"], accounts=accounts)
    trigger(fleet, schedule)
    waiting(lambda: ledger(fleet, schedule)[0].session_id is not None)
    # Nobody is there to do it, as when its worker has died.
    run(
        fleet,
        "UPDATE schedule_executions SET lease_expires_at = now() WHERE schedule_id = :id",
        id=schedule["schedule_id"],
    )
    assert dispatch(fleet)["lost"] >= 1
    with service(fleet, schedule["handler_queue"]):
        slot = ended(fleet, schedule, timeout=60)
    assert (slot["status"], slot["attempt"], slot["accounts_processed"]) == ("success", 2, 2)
    assert slot["result"] == {"looked_at": ["b", "a"], "slot": slot["nominal_utc"]}
    assert [one["status"] for one in slot["attempts"]] == ["failed", "success"]
    session = fleet.call("session.get", session_id=slot["session_id"])
    assert (session["status"], session["context"]["review"]) == ("completed", slot["result"])
    assert get(fleet, schedule)["last_status"] == "success"


def test_a_review_that_fails_elsewhere_fails_here(fleet: RunningFleet) -> None:
    schedule = handled(fleet, metadata={"fails": True}, max_retries=0)
    with service(fleet, schedule["handler_queue"]):
        trigger(fleet, schedule)
        slot = ended(fleet, schedule, timeout=60)
    assert (slot["status"], slot["error_message"]) == ("failed", "this review was told to fail")
    events = fleet.call("session.get_events", session_id=slot["session_id"])["items"]
    assert [one["event_name"] for one in events].count("schedule.failed") == 1


def test_a_run_that_is_kept_is_not_lost_and_its_end_counts_once(fleet: RunningFleet) -> None:
    schedule = handled(fleet)
    trigger(fleet, schedule)
    waiting(lambda: ledger(fleet, schedule)[0].session_id is not None)
    [row] = ledger(fleet, schedule)
    which = {"execution_id": row.execution_id, "attempt": 1}
    run(
        fleet,
        "UPDATE schedule_executions SET lease_expires_at = now() WHERE schedule_id = :id",
        id=schedule["schedule_id"],
    )
    assert fleet.call("schedule.keep_run", **which)["go_on"] is True
    dispatch(fleet)
    assert ledger(fleet, schedule)[0].status == "running"
    with pytest.raises(PayloadTooLarge):
        fleet.call("schedule.end_run", **which, status="success", result={"x": "y" * 262_144})
    with pytest.raises(ValidationFailed):
        fleet.call("schedule.end_run", **which, status="failed")
    assert fleet.call("schedule.end_run", **which, status="success")["accepted"] is True
    assert fleet.call("schedule.end_run", **which, status="success")["accepted"] is False
    assert get(fleet, schedule)["run_count"] == 1


def test_a_session_ended_by_hand_ends_the_run_without_another_try(fleet: RunningFleet) -> None:
    schedule = handled(fleet)
    trigger(fleet, schedule)
    waiting(lambda: ledger(fleet, schedule)[0].session_id is not None)
    [row] = ledger(fleet, schedule)
    fleet.call("session.terminate", session_id=str(row.session_id))
    answer = fleet.call("schedule.end_run", execution_id=row.execution_id, attempt=1, status="success", result={})
    assert (answer["accepted"], answer["status"]) == (True, "failed")
    assert ledger(fleet, schedule)[0].status == "failed"


@pytest.mark.parametrize(
    "arguments",
    [
        {"handler": "audits.nightly"},
        {"handler": "audits.nightly", "handler_queue": "sessions"},
        {"handler_queue": "audits"},
        {"handler": "no spaces", "handler_queue": "audits"},
    ],
)
def test_a_handler_without_a_queue_of_its_own_is_an_invalid_schedule(
    fleet: RunningFleet, arguments: dict[str, Any]
) -> None:
    with pytest.raises(InvalidSchedule) as caught:
        create(fleet, **arguments)
    assert caught.value.details["field"] in ("handler", "handler_queue")
