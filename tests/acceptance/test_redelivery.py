"""Messages of killed workers come back and have their effect once (rows P-11, B-13)."""

from __future__ import annotations

import os
import signal

from celery import Celery
from sqlalchemy import text

from tests.support import RunningFleet, eventually
from tests.support.ageing import age
from tests.support.asking import codes, together
from tests.support.crowd import hold, wait_for_workers
from tests.support.private import PrivateFleet
from tests.support.servers import private_valkey

SHORT = {"FLEET_TASK_TIME_LIMIT": "2", "FLEET_VISIBILITY_TIMEOUT": "3"}


def rows(fleet: RunningFleet, table: str, session_id: str) -> int:
    with fleet.engine.connect() as db:
        found = db.execute(text(f"SELECT count(*) FROM {table} WHERE session_id = :id"), {"id": session_id})
        return int(found.scalar_one())


def kill(fleet: RunningFleet, line: str) -> None:
    """SIGKILL to the only process of a line, children and all."""
    [process] = fleet.of(line)
    process.kill_group(signal.SIGKILL)
    process.wait(10)


def check_single_effect(fleet: RunningFleet, session_id: str, task_id: str) -> None:
    """created, started and the one chunk; one stored answer, which a repeat gets."""
    events = fleet.call("session.get_events", session_id=session_id)["items"]
    assert [event["event_name"] for event in events] == ["session.created", "session.started", "output.received"]
    assert rows(fleet, "session_output", session_id) == 1
    assert rows(fleet, "audit_events", session_id) == 3
    again = fleet.call("session.append_output", session_id=session_id, content="once\n", idempotency_key=task_id)
    assert (again["chunk_no"], again["replayed"]) == (1, True)


def test_a_worker_killed_before_its_commit(private_fleet: PrivateFleet) -> None:
    """AT-P4, first half [P-11 B-13]: nothing of the cut run stays, the second copy does it all."""
    fleet = private_fleet(relay=0, **SHORT)
    session_id = str(fleet.call("session.create", status="active")["id"])
    with fleet.engine.begin() as db:
        hold(db, session_id)
        handle = fleet.client.submit(
            "session.append_output", session_id=session_id, content="once\n", idempotency_key="key-1"
        )
        wait_for_workers(fleet, 1)
        kill(fleet, "sessions")
    assert rows(fleet, "session_output", session_id) == 0
    second = fleet.start("sessions")
    answer = handle.result(60)
    assert (answer["chunk_no"], "replayed" in answer) == (1, False)
    eventually(lambda: handle.task_id in second.log_text())
    check_single_effect(fleet, session_id, "key-1")


def test_a_worker_killed_after_its_commit(private_fleet: PrivateFleet) -> None:
    """AT-P4, first half [P-11 B-13]: the effect is there, the acknowledgement not; the copy repeats the answer.
    AT-B5 [B-13]: 50 more uses of the key at once get the same one, another body none.

    The Redis of the answers is frozen meanwhile: a worker that has committed waits there.
    """
    with private_valkey() as results:
        fleet = private_fleet(relay=0, FLEET_RESULT_URL=f"{results.url}/0", **SHORT)
        session_id = str(fleet.call("session.create", status="active")["id"])
        with fleet.engine.begin() as db:
            hold(db, session_id)
            handle = fleet.client.submit(
                "session.append_output", session_id=session_id, content="once\n", idempotency_key="key-1"
            )
            wait_for_workers(fleet, 1)
            results.pause()
        eventually(lambda: rows(fleet, "session_output", session_id) == 1)
        assert handle.task_id not in fleet.of("sessions")[0].log_text()
        kill(fleet, "sessions")
        results.resume()
        second = fleet.start("sessions")
        eventually(lambda: f"[{handle.task_id}] succeeded" in second.log_text())
        redelivered = handle.result(60)
        assert redelivered["chunk_no"] == 1
        call = {"session_id": session_id, "content": "once\n", "idempotency_key": "key-1"}
        answers = together(fleet, [("session.append_output", call)] * 50)
        assert [{**answer, "replayed": True} for answer in answers] == [{**redelivered, "replayed": True}] * 50
        [refused] = together(fleet, [("session.append_output", {**call, "content": "twice\n"})])
        assert codes([refused]) == ["IDEMPOTENCY_CONFLICT"]
        assert refused.details["first_task_id"] == handle.task_id
        check_single_effect(fleet, session_id, "key-1")


def pool(fleet: RunningFleet) -> list[int]:
    """The process ids of the maintenance worker's children, as the worker itself tells them."""
    with Celery(broker=fleet.settings.broker_url, set_as_current=False) as app:
        stats = app.control.inspect(timeout=30, limit=len(fleet.processes)).stats()
    [mine] = [found for name, found in stats.items() if name.startswith("maintenance")]
    return list(mine["pool"]["processes"])


def test_a_child_killed_in_mid_task(private_fleet: PrivateFleet) -> None:
    """AT-P4, first half [P-11]: its worker sends the task again at once, and the duty acts once."""
    fleet = private_fleet(relay=0, maintenance=1)
    session_id = str(fleet.call("session.create", status="active", timeout_seconds=60)["id"])
    age(fleet, 61, session_id)
    children = pool(fleet)
    with fleet.engine.begin() as db:
        db.execute(text("LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE"))
        handle = fleet.client.submit("maintenance.cleanup_stale")
        wait_for_workers(fleet, 1)
        for pid in children:
            os.kill(pid, signal.SIGKILL)
    assert handle.result(60) == {"expired": 1}
    events = fleet.call("session.get_events", session_id=session_id, types=["session.expired"])["items"]
    assert len(events) == 1
    assert fleet.call("maintenance.cleanup_stale") == {"expired": 0}
