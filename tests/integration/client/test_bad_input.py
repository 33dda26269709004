"""Messages that bypass the client's own checks: each its typed error, nothing written, the worker goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery

from sessionfleet.errors import FleetError, SessionNotFound, from_shape
from tests.support import RunningFleet

Send = Callable[..., FleetError]


@pytest.fixture(scope="module")
def producer(fleet: RunningFleet) -> Iterator[Celery]:
    """A plain Celery app as any other service has one: two URLs and nothing else."""
    app = Celery(
        "elsewhere", broker=fleet.settings.broker_url, backend=fleet.settings.result_url, set_as_current=False
    )
    app.conf.broker_transport_options = {"socket_timeout": 5, "socket_connect_timeout": 5}
    yield app
    app.close()


@pytest.fixture
def refusal(fleet: RunningFleet, producer: Celery) -> Iterator[Send]:
    """Sends a message past the client's checks and gives the error it ends in.

    Afterwards every worker must be the one it was, and answer.
    """
    workers = {process.name: process.pid for process in fleet.processes if process.running}

    def send(name: str, *args: Any, queue: str = "sessions", **kwargs: Any) -> FleetError:
        result = producer.send_task(name, args=args, kwargs=kwargs, queue=queue, ignore_result=False)
        result.get(timeout=60, propagate=False)
        assert result.state == "FAILURE"
        shape = json.loads(producer.backend.get(f"celery-task-meta-{result.id}"))["result"]["exc_message"][0]
        return from_shape(shape)

    yield send
    assert fleet.call("session.count")["total"] >= 0
    assert {process.name: process.pid for process in fleet.processes if process.running} == workers


def field(error: FleetError) -> str:
    assert error.code == "VALIDATION_FAILED"
    assert error.http_status == 422
    assert not error.retryable
    return str(error.details["fields"][0]["field"])


def test_an_operation_that_does_not_exist(refusal: Send) -> None:
    error = refusal("session.creat", agent_id="a")
    assert (error.code, error.http_status) == ("UNKNOWN_OPERATION", 404)
    assert error.details["operation"] == "session.creat"


@pytest.mark.parametrize(
    ("name", "arguments", "named"),
    [
        ("session.pause", {}, "session_id"),
        ("session.pause", {"session_id": "s", "sesion_id": "s"}, "sesion_id"),
        ("session.pause", {"session_id": 7}, "session_id"),
        ("session.pause", {"session_id": None}, "session_id"),
        ("session.pause", {"session_id": ["s"]}, "session_id"),
        ("session.pause", {"session_id": ""}, "session_id"),
        ("session.pause", {"session_id": "x" * 277}, "session_id"),
        ("session.pause", {"session_id": "a\x00b"}, "session_id"),
        ("session.create", {"id": "not-a-uuid"}, "id"),
        ("session.create", {"status": "idle"}, "status"),
        ("session.create", {"context": []}, "context"),
        ("session.create", {"context": {"a": [1, "b\x00"]}}, "context"),
        ("session.create", {"context": {"a": float("nan")}}, "context"),
        ("session.create", {"context": {"a": float("-inf")}}, "context"),
        ("session.create", {"timeout_seconds": "soon"}, "timeout_seconds"),
        ("session.create", {"timeout_seconds": -1}, "timeout_seconds"),
        ("session.create", {"runtime_backend": "mainframe"}, "runtime_backend"),
        ("session.create", {"deadline_at": "2026-01-01T00:00:00"}, "deadline_at"),
        ("session.create", {"idempotency_key": "k" * 256}, "idempotency_key"),
        ("session.create", {"tags": ["ok", 3]}, "tags.1"),
        ("session.list", {"limit": -1}, "limit"),
        ("session.list", {"limit": 1001}, "limit"),
        ("session.list", {"status": "sleeping"}, "status"),
        ("session.append_output", {"session_id": "s", "content": ""}, "content"),
        ("session.emit_event", {"session_id": "s", "type": "new", "impact": {"severity": "huge"}}, "impact.severity"),
        ("session.emit_event", {"session_id": "s", "type": "Not A Word"}, "type"),
        ("session.extend", {"session_id": "s", "seconds": 0}, "seconds"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(
    refusal: Send, name: str, arguments: dict[str, Any], named: str
) -> None:
    # Some findings name the kind of a union after the field.
    assert field(refusal(name, **arguments)).startswith(named)


def test_every_field_that_does_not_fit_is_named(refusal: Send) -> None:
    error = refusal("session.create", status="idle", tags=7, nonsense=1)
    assert {one["field"] for one in error.details["fields"]} == {"status", "tags", "nonsense"}


def test_of_very_many_the_first_hundred_are_named(refusal: Send) -> None:
    steps = [{"name": "session.create", "arguments": {"tags": [1] * 70}}] * 1000
    for error in (refusal("session.create", tags=[1] * 10_000), refusal("session.apply", operations=steps)):
        assert len({one["field"] for one in error.details["fields"]}) == 100
    assert error.details["fields"][99]["field"] == "operations.1.arguments.tags.29"


def test_the_path_of_what_json_cannot_hold(refusal: Send) -> None:
    error = refusal("session.create", context={"list": [{"ok": 1}, {"bad": "\x00"}]})
    assert "$.list[1].bad" in error.message


def test_a_lone_surrogate(refusal: Send) -> None:
    assert field(refusal("session.create", query="\ud800")) == "query"


def test_arguments_by_position(refusal: Send) -> None:
    assert field(refusal("session.get", "s")) == "arguments"


def test_the_key_of_a_list(refusal: Send) -> None:
    steps = [{"name": "session.touch", "arguments": {"session_id": "s"}}]
    assert field(refusal("session.apply", operations=steps, idempotency_key="a\x00b")) == "idempotency_key"


def test_depth_has_an_end(refusal: Send) -> None:
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    assert field(refusal("session.create", context={"deep": deep})) == "context"


def test_a_context_one_byte_too_large(refusal: Send, fleet: RunningFleet) -> None:
    limit = fleet.settings.max_context_bytes
    external_id = f"large-{uuid4()}"
    error = refusal("session.create", external_id=external_id, context={"a": "x" * limit})
    assert error.code == "PAYLOAD_TOO_LARGE"
    assert error.details["limit"] == limit
    assert error.details["size"] > limit
    with pytest.raises(SessionNotFound):
        fleet.call("session.get", session_id=external_id)


def test_ten_megabytes_are_refused_too(refusal: Send) -> None:
    assert refusal("session.create", metadata={"a": "x" * 10_000_000}).code == "PAYLOAD_TOO_LARGE"


def test_an_unknown_session(refusal: Send) -> None:
    error = refusal("session.pause", session_id=str(uuid4()))
    assert (error.code, error.http_status) == ("SESSION_NOT_FOUND", 404)


def test_a_duty_takes_no_arguments(refusal: Send) -> None:
    assert field(refusal("maintenance.cleanup_stale", queue="maintenance", now="tomorrow")) == "now"


def test_nothing_of_it_was_written(refusal: Send, fleet: RunningFleet) -> None:
    session_id = fleet.call("session.create", status="active")["id"]
    before = fleet.call("session.get", session_id=session_id)
    events = fleet.call("session.get_events", session_id=session_id)["items"]
    refusal("session.pause", session_id=session_id, reason=5)
    refusal("session.resume", session_id=session_id)
    refusal("session.update", session_id=session_id, context={"a": 1}, expected_version=77)
    refusal("session.update", session_id=session_id, mode="replace", context={"a": 1})
    refusal("session.update", session_id=session_id, mode="patch", context=[{"op": "test", "path": "/a", "value": 1}])
    assert fleet.call("session.get", session_id=session_id) == before
    assert fleet.call("session.get_events", session_id=session_id)["items"] == events
