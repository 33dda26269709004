"""The fleet under pytest-celery: a plain Celery app as producer, nodes that are killed and come back.

``celery_setup.app`` knows nothing of the fleet but two URLs: what it gets, any Celery producer gets.
"""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery
from celery.exceptions import TimeoutError as CeleryTimeout
from celery.result import AsyncResult
from kombu.exceptions import OperationalError
from pytest_celery import CeleryTestNode, CeleryTestSetup
from sqlalchemy import Engine, text

from sessionfleet.errors import SessionNotFound
from tests.support import eventually

WAIT = 30


def send(setup: CeleryTestSetup, name: str, **kwargs: Any) -> AsyncResult:
    return setup.app.send_task(name, kwargs=kwargs, queue=setup.worker.worker_queue)


def call(setup: CeleryTestSetup, name: str, **kwargs: Any) -> Any:
    return send(setup, name, **kwargs).get(timeout=WAIT)


def test_a_cluster_of_local_processes_answers_ping(celery_setup: CeleryTestSetup) -> None:
    assert len(celery_setup) == 3
    assert celery_setup.ready(control=True)
    node = celery_setup.worker.hostname()
    assert celery_setup.app.control.ping(destination=[node], timeout=5) == [{node: {"ok": "pong"}}]


def test_an_operation_and_its_typed_error_reach_a_plain_producer(celery_setup: CeleryTestSetup) -> None:
    created = call(celery_setup, "session.create", agent_id="a1", session_type="development")
    assert (created["status"], created["agent_id"]) == ("initializing", "a1")
    assert call(celery_setup, "session.start", session_id=created["id"])["status"] == "active"
    with pytest.raises(SessionNotFound, match="Session not found: nobody"):
        call(celery_setup, "session.get", session_id="nobody")


def test_a_killed_broker_comes_back_with_the_message_it_held(celery_setup: CeleryTestSetup) -> None:
    session_id = call(celery_setup, "session.create")["id"]
    celery_setup.worker.kill("SIGSTOP", reload_container=False)
    waiting = send(celery_setup, "session.start", session_id=session_id)

    celery_setup.broker.kill()
    with pytest.raises(OperationalError):
        celery_setup.app.send_task("session.get", kwargs={"session_id": session_id}, retry=False, ignore_result=True)
    celery_setup.broker.restart()

    celery_setup.worker.kill("SIGCONT", reload_container=False)
    assert waiting.get(timeout=WAIT)["status"] == "active"
    assert call(celery_setup, "session.get", session_id=session_id)["status"] == "active"


def test_a_broker_killed_under_an_idle_worker_is_found_again(celery_setup: CeleryTestSetup) -> None:
    session_id = call(celery_setup, "session.create")["id"]
    pid = celery_setup.worker.container.process.pid
    celery_setup.broker.restart(force=True)
    assert call(celery_setup, "session.start", session_id=session_id)["status"] == "active"
    assert celery_setup.worker.container.process.pid == pid, "the worker has ended and was started again"


def test_what_was_sent_to_a_dead_worker_is_done_when_it_is_back(celery_setup: CeleryTestSetup) -> None:
    session_id = call(celery_setup, "session.create")["id"]
    celery_setup.worker.kill()
    assert celery_setup.worker.container.status == "exited"
    waiting = send(celery_setup, "session.start", session_id=session_id)
    celery_setup.worker.restart()
    assert waiting.get(timeout=WAIT)["status"] == "active"


def test_a_worker_killed_in_mid_task_has_its_task_done_once(celery_setup: CeleryTestSetup, database: Engine) -> None:
    """Row P-11, AT-P4: redelivered after the visibility timeout, one effect."""
    session_id = call(celery_setup, "session.create", status="active")["id"]
    with database.begin() as holder:
        holder.execute(text("SELECT 1 FROM sessions WHERE id = :id FOR UPDATE"), {"id": session_id})
        waiting = send(celery_setup, "session.append_output", session_id=session_id, content="once\n")
        eventually(lambda: _blocked(holder), WAIT)
        celery_setup.worker.kill()
    celery_setup.worker.restart()
    waiting.get(timeout=WAIT)
    assert call(celery_setup, "session.read_output", session_id=session_id)["output"] == "once\n"


def test_operations_go_on_without_the_backend(celery_setup: CeleryTestSetup, database: Engine) -> None:
    """Answers cannot be stored there, but they are in PostgreSQL: the same call gets them later (B-13)."""
    keys = [str(uuid4()) for _ in range(3)]
    pid = celery_setup.worker.container.process.pid
    celery_setup.backend.kill()
    # A producer without a backend of its own still makes the worker try to store the answer.
    with Celery("elsewhere", broker=celery_setup.broker.config()["url"], set_as_current=False) as producer:
        for key in keys:
            producer.send_task("session.create", kwargs={"agent_id": "a1", "idempotency_key": key}, queue="sessions")
    count = text("SELECT count(*) FROM idempotency_keys WHERE key = ANY(:keys)")

    def all_written() -> bool:
        with database.connect() as connection:
            return bool(connection.scalar(count, {"keys": keys}) == len(keys))

    eventually(all_written, WAIT)
    celery_setup.backend.restart()

    def replayed(key: str) -> bool:
        try:
            answer = send(celery_setup, "session.create", agent_id="a1", idempotency_key=key).get(timeout=2)
        except CeleryTimeout:
            return False  # for a second after its last failure the worker does not try to store answers
        return bool(answer["replayed"])

    for key in keys:
        eventually(partial(replayed, key), WAIT)
    assert celery_setup.worker.container.process.pid == pid, "the worker has ended and was started again"


def test_the_database_is_a_node_too(celery_setup: CeleryTestSetup, postgres_node: CeleryTestNode) -> None:
    session_id = call(celery_setup, "session.create", context={"kept": True})["id"]
    postgres_node.restart(force=True)
    assert call(celery_setup, "session.get", session_id=session_id)["context"] == {"kept": True}


def _blocked(connection: Any) -> bool:
    waiting: int = connection.scalar(text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
    return waiting > 0
