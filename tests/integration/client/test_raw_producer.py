"""The contract for services without our client: a plain Celery app in another process (R-11)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.support import RunningFleet

PROGRAM = """
import json, sys
from celery import Celery

assert not any(name.split(".")[0] in ("sessionfleet", "tasks", "workers") for name in sys.modules)
orders = json.load(sys.stdin)
app = Celery("another-service", broker=orders["broker"], backend=orders["backend"])
answers = []
for order in orders["tasks"]:
    result = app.send_task(order["name"], kwargs=order["kwargs"], queue=order["queue"])
    try:
        answers.append({"answer": result.get(timeout=60)})
    except Exception as error:
        answers.append({"kind": type(error).__name__, "shape": error.args[0], "state": result.state})
try:
    import sessionfleet
except ImportError:
    json.dump(answers, sys.stdout)
"""


@pytest.fixture
def elsewhere(fleet: RunningFleet, tmp_path: Path) -> Any:
    """Runs operations one after the other in a process that cannot even find our packages."""

    def run(*tasks: tuple[str, str, dict[str, Any]]) -> list[dict[str, Any]]:
        orders = {
            "broker": fleet.settings.broker_url,
            "backend": fleet.settings.result_url,
            "tasks": [{"name": name, "queue": queue, "kwargs": kwargs} for name, queue, kwargs in tasks],
        }
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            input=json.dumps(orders),
            env={"PATH": os.defpath},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answers: list[dict[str, Any]] = json.loads(done.stdout)
        return answers

    return run


def test_it_gets_the_same_answer(fleet: RunningFleet, elsewhere: Any) -> None:
    external_id = f"raw-{uuid4()}"
    key = str(uuid4())
    arguments = {"external_id": external_id, "agent_id": "a1", "context": {"ü": [1, None]}, "idempotency_key": key}
    [created, read] = elsewhere(
        ("session.create", "sessions", arguments), ("session.get", "sessions", {"session_id": external_id})
    )
    assert fleet.call("session.create", **arguments) == created["answer"] | {"replayed": True}
    assert read["answer"] == fleet.call("session.get", session_id=external_id)
    assert read["answer"]["context"] == {"ü": [1, None]}


def test_it_gets_the_same_errors(elsewhere: Any) -> None:
    found = elsewhere(
        ("session.get", "sessions", {"session_id": "nobody"}),
        ("session.create", "sessions", {"timeout_seconds": "soon"}),
        ("session.nothing", "sessions", {}),
        ("maintenance.cleanup_stale", "maintenance", {}),
    )
    assert [one.get("state") for one in found[:3]] == ["FAILURE"] * 3
    assert [one["shape"]["code"] for one in found[:3]] == [
        "SESSION_NOT_FOUND",
        "VALIDATION_FAILED",
        "UNKNOWN_OPERATION",
    ]
    assert found[0]["kind"] == "SessionNotFound"
    assert found[0]["shape"]["details"] == {"session_id": "nobody"}
    assert set(found[0]["shape"]) == {
        "code", "message", "details", "retryable", "retry_after_ms", "http_status", "legacy_codes",
    }  # fmt: skip
    assert found[1]["shape"]["details"]["fields"][0]["field"] == "timeout_seconds"
    assert set(found[3]["answer"]) == {"expired"}


def test_without_a_key_the_task_id_is_the_key(elsewhere: Any) -> None:
    user = f"raw-{uuid4()}"
    answers = elsewhere(
        ("session.create", "sessions", {"user_id": user}),
        ("session.create", "sessions", {"user_id": user}),
        ("session.count", "sessions", {"user_id": user}),
    )
    assert answers[2]["answer"]["total"] == 2
