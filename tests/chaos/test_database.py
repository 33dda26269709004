"""PostgreSQL that dies, refuses or is slow while work goes on (T12, T13; rows A-12, B-13)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from uuid import uuid4

import psycopg2
import pytest
from celery import Celery
from sqlalchemy import Engine, make_url, text

from sessionfleet.errors import CallTimeout, Unavailable
from tests.chaos.driver.quiet import left_over
from tests.chaos.driver.work import Work
from tests.support import RunningFleet, eventually
from tests.support.crowd import hold, wait_for_workers
from tests.support.private import PrivateFleet
from tests.support.proxy import proxy
from workers.embedded import EmbeddedPostgres

RESTARTS = 3
CONNECTIONS = 15


def postgres_of(fleet: RunningFleet) -> EmbeddedPostgres:
    assert fleet.servers.postgres is not None
    return fleet.servers.postgres


def chunks(engine: Engine, session_id: str) -> list[str]:
    with engine.connect() as db:
        found = db.execute(text("SELECT content FROM session_output WHERE session_id = :id"), {"id": session_id})
        return sorted(found.scalars())


def test_stopped_in_the_middle_of_work(private_fleet: PrivateFleet) -> None:
    """T12: immediate stops under load. Each write has one effect, also those nobody waits for, and no process
    of the fleet ends."""
    fleet = private_fleet(sessions=2, relay=1)
    pids = [process.pid for process in fleet.processes]
    work = Work(fleet, [fleet.client])
    work.start()
    for _ in range(RESTARTS):
        work.goes_on(25)
        postgres_of(fleet).stop(mode="immediate")
        postgres_of(fleet).start()
    work.goes_on(25)
    work.finish()
    eventually(lambda: not left_over(fleet), 180, every=0.1)
    verdict = work.judge(fleet.engine)
    assert verdict.passed, verdict
    assert not work.failures
    assert [process.pid for process in fleet.processes if process.running] == pids


@contextlib.contextmanager
def all_connections_taken(fleet: RunningFleet) -> Iterator[None]:
    """By somebody else: the workers had none, or lost theirs to the restart."""
    url = make_url(fleet.settings.database_url)
    words = f"host={url.host} port={url.port} user={url.username} password={url.password} dbname={url.database}"
    with contextlib.ExitStack() as taken:
        with pytest.raises(psycopg2.OperationalError, match="too many clients"):
            for _ in range(2 * CONNECTIONS):
                taken.callback(psycopg2.connect(words).close)
        yield


def test_no_connection_left(private_fleet: PrivateFleet) -> None:
    """T13: who waits is told so by a typed error; what nobody waits for is not drained into failures."""
    fleet = private_fleet(sessions=1, relay=0)
    session_id = str(fleet.call("session.create", status="active")["id"])
    fleet.engine.dispose()
    postgres = postgres_of(fleet)
    postgres.settings = {**postgres.settings, "max_connections": str(CONNECTIONS)}
    postgres.stop(mode="immediate")
    postgres.start()
    told = [f"{number}\n" for number in range(10)]
    with all_connections_taken(fleet):
        with pytest.raises(Unavailable) as refused:
            fleet.call("session.append_output", session_id=session_id, content="asked\n")
        assert (refused.value.details["service"], refused.value.retryable) == ("PostgreSQL", True)
        for content in told[:5]:
            fleet.client.send("session.append_output", session_id=session_id, content=content)
        with Celery(broker=fleet.settings.broker_url, set_as_current=False) as producer:
            for content in told[5:]:
                kwargs = {"session_id": session_id, "content": content}
                producer.send_task("session.append_output", kwargs=kwargs, queue="sessions", ignore_result=True)
        # Longer than a process holds on to a message: it is given back, and taken again.
        eventually(lambda: "reject requeue" in fleet.of("sessions")[0].log_text(), 90)
    eventually(lambda: chunks(fleet.engine, session_id) == told, 90, every=0.1)
    assert left_over(fleet).keys() == {"events not published"}, "there is no relay"


def test_slow_and_held_up(private_fleet: PrivateFleet) -> None:
    """T13: every piece of an answer takes a while and nothing fails for it; then somebody holds the row, so that
    the caller gives up first and repeats later: one effect."""
    fleet = private_fleet(sessions=0, relay=0)
    with proxy(postgres_of(fleet).port) as slow:
        url = make_url(fleet.settings.database_url).set(port=slow.port).render_as_string(hide_password=False)
        fleet.start("sessions", FLEET_DATABASE_URL=url)
        session_id = str(fleet.call("session.create", status="active")["id"])
        slow.delay = 0.05
        assert fleet.call("session.append_output", session_id=session_id, content="slow\n")["chunk_no"] == 1
        call = {"session_id": session_id, "content": "held\n", "idempotency_key": str(uuid4())}
        with fleet.engine.begin() as db:
            hold(db, session_id)
            with pytest.raises(CallTimeout):
                fleet.call("session.append_output", timeout=0.5, **call)
            wait_for_workers(fleet, 1)
        assert fleet.call("session.append_output", **call)["replayed"]
    assert chunks(fleet.engine, session_id) == ["held\n", "slow\n"]
