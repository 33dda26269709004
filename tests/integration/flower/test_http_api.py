"""Flower's HTTP API through a real HTTP client: enqueue, read, refuse (R-08, AT-R2)."""

from __future__ import annotations

import json
import socket
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import redis
import requests

from tests.support import RunningFleet, eventually


class Http:
    """A service without any Celery: it knows the address of Flower and its credentials."""

    def __init__(self, base: str, user: str, password: str) -> None:
        self.base = base
        self.session = requests.Session()
        self.session.auth = (user, password)

    def send(self, name: str, body: dict[str, Any], **headers: str) -> requests.Response:
        return self.session.post(f"{self.base}/api/task/send-task/{name}", json=body, headers=headers, timeout=10)

    def result(self, task_id: str, wait: float = 10) -> dict[str, Any]:
        answer = self.session.get(f"{self.base}/api/task/result/{task_id}", params={"timeout": wait}, timeout=20)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def call(self, name: str, **kwargs: Any) -> dict[str, Any]:
        """What the documented two requests give: ``{task-id, state, result}``."""
        sent = self.send(name, {"kwargs": kwargs, "queue": "sessions", "ignore_result": False})
        assert sent.status_code == 200, sent.text
        return self.result(sent.json()["task-id"])

    def document(self, name: str, **kwargs: Any) -> dict[str, Any]:
        answer = self.call(name, **kwargs)
        assert answer["state"] == "SUCCESS", answer
        document: dict[str, Any] = answer["result"]
        return document

    def error(self, name: str, **kwargs: Any) -> dict[str, Any]:
        answer = self.call(name, **kwargs)
        assert answer["state"] == "FAILURE", answer
        assert "traceback" not in answer
        shape: dict[str, Any] = json.loads(answer["result"])
        assert set(shape) == {
            "code",
            "message",
            "details",
            "retryable",
            "retry_after_ms",
            "http_status",
            "legacy_codes",
        }
        return shape


@pytest.fixture(scope="module")
def http(fleet: RunningFleet) -> Iterator[Http]:
    port = _free_port()
    process = fleet.start("flower", FLEET_FLOWER_PORT=str(port))
    base = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.running, process.log_text()
        try:
            return requests.get(f"{base}/healthcheck", timeout=2).status_code == 200
        except requests.ConnectionError:
            return False

    eventually(answers)
    yield Http(base, fleet.settings.flower_user, fleet.settings.flower_password)
    assert process.stop(10), "Flower did not end on SIGTERM"
    assert process.returncode == 0, process.log_text()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_session_is_created_and_read_over_http(http: Http) -> None:
    created = http.document(
        "session.create", agent_id="a1", session_type="development", context={"working_directory": "/project"}
    )
    assert created["status"] == "initializing"
    assert created["context"] == {"working_directory": "/project"}
    read = http.document("session.get", session_id=created["id"])
    assert (read["id"], read["agent_id"]) == (created["id"], "a1")


def test_a_life_over_http(http: Http) -> None:
    agent = f"agent-{uuid4()}"
    session_id = http.document("session.create", agent_id=agent)["id"]
    assert http.document("session.start", session_id=session_id)["status"] == "active"
    listed = http.document("session.list", agent_id=agent)["items"]
    assert [one["id"] for one in listed] == [session_id]
    http.document("session.append_output", session_id=session_id, content="hello\n")
    assert http.document("session.read_output", session_id=session_id)["output"] == "hello\n"
    ended = http.document("session.terminate", session_id=session_id, reason="maintenance")
    assert (ended["status"], ended["status_reason"]) == ("terminated", "maintenance")


@pytest.mark.parametrize(
    ("name", "kwargs", "code", "status"),
    [
        ("session.get", {"session_id": "nobody"}, "SESSION_NOT_FOUND", 404),
        ("session.terminate", {"session_id": "nobody"}, "SESSION_NOT_FOUND", 404),
        ("session.gett", {"session_id": "nobody"}, "UNKNOWN_OPERATION", 404),
        ("session.list", {"limit": -1}, "VALIDATION_FAILED", 422),
        ("session.create", {"colour": "red"}, "VALIDATION_FAILED", 422),
        ("session.create", {"agent_id": 7}, "VALIDATION_FAILED", 422),
        ("session.get", {}, "VALIDATION_FAILED", 422),
    ],
)
def test_an_error_has_its_shape_and_status(
    http: Http, name: str, kwargs: dict[str, Any], code: str, status: int
) -> None:
    shape = http.error(name, **kwargs)
    assert (shape["code"], shape["http_status"]) == (code, status)


def test_a_wrong_status_is_400(http: Http) -> None:
    session_id = http.document("session.create")["id"]
    shape = http.error("session.pause", session_id=session_id)
    assert (shape["code"], shape["http_status"]) == ("INVALID_TRANSITION", 400)
    assert shape["details"]["from"] == "initializing"


def test_the_same_idempotency_key_has_one_effect(http: Http) -> None:
    key = str(uuid4())
    first = http.document("session.create", agent_id="a1", idempotency_key=key)
    again = http.document("session.create", agent_id="a1", idempotency_key=key)
    assert again["id"] == first["id"]
    assert again["replayed"] is True


@pytest.mark.parametrize("path", ["/", "/tasks", "/broker", "/api/workers", "/api/tasks", "/api/task/result/x"])
def test_without_credentials_everything_is_401(http: Http, path: str) -> None:
    answer = requests.get(http.base + path, timeout=5)
    assert answer.status_code == 401
    assert "Basic" in answer.headers.get("WWW-Authenticate", "Basic")


def test_a_wrong_password_enqueues_nothing(http: Http, fleet: RunningFleet) -> None:
    count = fleet.call("session.count", agent_id="intruder")["total"]
    answer = requests.post(
        f"{http.base}/api/task/send-task/session.create",
        json={"kwargs": {"agent_id": "intruder"}},
        auth=("fleet", "guess"),
        timeout=5,
    )
    assert answer.status_code == 401
    assert fleet.call("session.count", agent_id="intruder")["total"] == count == 0


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://elsewhere.example"}, {"Sec-Fetch-Site": "cross-site"}], ids=["origin", "fetch"]
)
def test_a_cross_origin_post_is_refused(http: Http, fleet: RunningFleet, headers: dict[str, str]) -> None:
    answer = http.send("session.create", {"kwargs": {"agent_id": "cross-origin"}}, **headers)
    assert answer.status_code == 403
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert fleet.call("session.count", agent_id="cross-origin")["total"] == 0


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"[]",
        b'{"args": 3}',
        b'{"kwargs": "agent"}',
        b'{"kwargs": []}',
        b'{"queue": "session"}',
        b'{"queue": 5}',
        b'{"task_id": 5}',
        b'{"countdown": "soon"}',
        b'{"expires": "soon"}',
        b'{"serializer": "none"}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_bad_http_bodies_are_400_with_a_reason_and_leave_flower_alive(http: Http, body: bytes) -> None:
    answer = http.session.post(f"{http.base}/api/task/send-task/session.create", data=body, timeout=5)
    assert (answer.status_code, bool(answer.text)) == (400, True)
    assert http.session.get(f"{http.base}/api/workers", timeout=5).status_code == 200


@pytest.mark.parametrize("timeout", ["nan", "inf", "soon"])
def test_a_time_that_is_no_number_is_400(http: Http, timeout: str) -> None:
    url = f"{http.base}/api/task/result/{uuid4()}"
    assert http.session.get(url, params={"timeout": timeout}, timeout=5).status_code == 400


def test_who_waits_for_answers_keeps_nobody_from_being_served(http: Http) -> None:
    """Flower itself serves its API with five threads, and a wait took one of them."""
    asked = f"GET /api/task/result/{{}}?timeout=1000 HTTP/1.1\r\nHost: x\r\nAuthorization: {_basic(http)}\r\n\r\n"
    address = ("127.0.0.1", urlsplit(http.base).port)
    with ExitStack() as waiting:
        for _ in range(20):
            waiting.enter_context(socket.create_connection(address)).sendall(asked.format(uuid4()).encode())
        for _ in range(3):
            http.document("session.create")


def test_what_is_sent_is_not_subscribed_to(http: Http, fleet: RunningFleet) -> None:
    with redis.Redis.from_url(fleet.settings.result_url) as server:
        for _ in range(3):
            http.document("session.create")
        channels = server.pubsub_channels("*celery-task-meta-*")
    assert channels == [], "nobody reads what comes there: it would fill Redis' buffer for this client"


def _basic(http: Http) -> str:
    user, password = http.session.auth  # type: ignore[misc]
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def test_a_result_that_is_not_there_yet_is_pending(http: Http) -> None:
    assert http.result(str(uuid4()), wait=0.1)["state"] == "PENDING"


def test_flower_sees_workers_tasks_and_queues(http: Http, fleet: RunningFleet) -> None:
    http.document("session.create")

    def seen() -> bool:
        workers = http.session.get(f"{http.base}/api/workers", params={"refresh": "true"}, timeout=10).json()
        return {name.partition(".")[0] for name in workers} >= {"sessions", "maintenance"}

    eventually(seen)
    tasks = http.session.get(f"{http.base}/api/tasks", params={"taskname": "session.create"}, timeout=5).json()
    assert any(one["state"] == "SUCCESS" for one in tasks.values())
    queues = http.session.get(f"{http.base}/api/queues/length", timeout=5).json()["active_queues"]
    assert {one["name"] for one in queues} == {"sessions", "maintenance", "reviews"}
