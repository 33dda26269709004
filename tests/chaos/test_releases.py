"""Two releases side by side, and workers with a wrong clock (T19, T22; rows D-18, P-11)."""

from __future__ import annotations

import signal
import time
from datetime import datetime, timedelta

from celery import Celery
from sqlalchemy import text

from tests.chaos.driver.quiet import left_over
from tests.chaos.driver.work import Work
from tests.support import RunningFleet, eventually
from tests.support.asking import get, new
from tests.support.crowd import hold, wait_for_workers
from tests.support.letters import letters
from tests.support.private import PrivateFleet
from workers.processes import ManagedProcess

NEXT = "tests.chaos.next_release"


def started_as(fleet: RunningFleet, old: str, new: str) -> ManagedProcess:
    """A sessions worker whose command line has ``new`` in place of ``old``."""
    process = fleet.start("sessions", wait=False)
    process.stop()
    process.command = [part.replace(old, new) for part in process.command]
    process.start()
    fleet.ready(process)
    return process


def send(fleet: RunningFleet, name: str, **kwargs: object) -> str:
    """A message of a producer that waits for no answer; its task id."""
    with Celery(broker=fleet.settings.broker_url, set_as_current=False) as producer:
        return str(producer.send_task(name, kwargs=kwargs, queue="sessions", ignore_result=True).id)


def test_producers_of_the_next_release_come_first(private_fleet: PrivateFleet) -> None:
    """T22: what the old workers do not know is kept; nothing is lost while they are replaced one after the other
    under load; after that what was kept is sent again and done."""
    fleet = private_fleet(sessions=2, maintenance=1, relay=1)
    session_id = new(fleet)["id"]
    sent = [send(fleet, "session.shout", session_id=session_id, content="new\n")]
    sent.append(send(fleet, "session.append_output", session_id=session_id, content="loud\n", volume=11))
    eventually(lambda: {letter["task_id"] for letter in letters(fleet)} == set(sent), 90, every=0.2)
    reasons = {letter["task_id"]: letter["reason"] for letter in letters(fleet)}
    assert "session.shout" in reasons[sent[0]]
    assert "volume" in reasons[sent[1]]
    assert get(fleet, session_id)["last_seq"] == 2, "created and started"

    work = Work(fleet, [fleet.client])
    work.start()
    for process in fleet.of("sessions"):
        work.goes_on(10)
        assert process.stop(60), "it ended what it had begun"
        process.command = [part.replace("-A workers.main", f"-A {NEXT}") for part in process.command]
        process.start()
        fleet.ready(process)
    work.goes_on(10)
    work.finish()
    eventually(lambda: not left_over(fleet), 180, every=0.1)
    assert work.judge(fleet.engine).passed, work.judge(fleet.engine)
    assert not work.failures

    ids = [letter["id"] for letter in letters(fleet)]
    assert len(fleet.call("deadletter.requeue", ids=ids)["requeued"]) == 2
    output = eventually(lambda: done(fleet, session_id, 2), 90)
    assert sorted(output) == ["loud\n", "new\n"]


def done(fleet: RunningFleet, session_id: str, count: int) -> list[str]:
    found = fleet.call("session.read_output", session_id=session_id)["output"].splitlines(keepends=True)
    return found if len(found) >= count else []


def test_a_worker_whose_clock_is_two_hours_ahead(private_fleet: PrivateFleet) -> None:
    """T19: it doubles no message that another one works on, takes no session for expired and no caller for gone;
    the clock of the servers decides."""
    fleet = private_fleet(sessions=1, relay=0)
    [honest] = fleet.of("sessions")
    session_id = new(fleet)["id"]
    skewed = started_as(fleet, "-m celery", "-m tests.chaos.skewed_clock 7200")
    skewed.kill(signal.SIGSTOP)
    # Whoever waits would be given the next message, frozen or not.
    fleet.broker.client_kill_filter(_type="normal", skipme=True)
    with fleet.engine.begin() as db:
        hold(db, session_id)
        handle = fleet.client.submit("session.append_output", session_id=session_id, content="once\n")
        wait_for_workers(fleet, 1)
        skewed.kill(signal.SIGCONT)
        ready_at = time.monotonic()
        # It looks for overdue messages and for dead consumers every two seconds.
        eventually(lambda: fleet.call("session.count") and time.monotonic() > ready_at + 5, 90, every=0.2)
    assert handle.result(60)["chunk_no"] == 1
    honest.stop(60)

    answer = fleet.call("session.append_output", session_id=session_id, content="twice\n", deadline=60)
    assert answer["chunk_no"] == 2, "the first was done once, whoever did it"
    eventually(lambda: "append_output" in skewed.log_text())  # it logs after it has answered
    assert get(fleet, session_id)["status"] == "active"
    created = datetime.fromisoformat(new(fleet)["created_at"])
    with fleet.engine.connect() as db:
        now = db.execute(text("SELECT clock_timestamp()")).scalar_one()
    assert abs(now - created) < timedelta(minutes=1)
