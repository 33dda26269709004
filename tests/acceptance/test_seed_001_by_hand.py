"""The use cases and examples of the service of seed 001, through ``./fleet call``, with its Redis events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis

from tests.support import RunningFleet, eventually
from tests.support.command_line import answer, run

AGENT = str(uuid4())


@pytest.fixture
def heard(fleet: RunningFleet) -> Iterator[list[dict[str, Any]]]:
    """What a plain Redis client hears on ``events:session``."""
    messages: list[dict[str, Any]] = []
    pubsub = fleet.cache.pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe(**{"events:session": lambda message: messages.append(json.loads(message["data"]))})
    thread = pubsub.run_in_thread(sleep_time=0.05, exception_handler=_ended)
    yield messages
    thread.stop()
    thread.join()
    pubsub.close()


def _ended(error: BaseException, *_: Any) -> None:
    if not isinstance(error, (redis.ConnectionError, ValueError)):
        raise error


def call(fleet: RunningFleet, name: str, *pairs: str, **body: Any) -> dict[str, Any]:
    words = ["call", name, *pairs, *(["--json", json.dumps(body)] if body else [])]
    found: dict[str, Any] = answer(run(fleet, *words))
    return found


def test_its_use_cases(fleet: RunningFleet) -> None:
    development = call(
        fleet,
        "session.create",
        agent_id=AGENT,
        session_type="development",
        status="active",
        context={"working_directory": "/project", "current_task": "Modal", "files_open": ["a.tsx", "b.ts"]},
        runtime_backend="local",
        runtime_metadata={"terminal_id": "term-1", "pid": 4711},
    )
    assert development["runtime_metadata"] == {"terminal_id": "term-1", "pid": 4711}
    session = f"session_id={development['id']}"
    talk = call(
        fleet,
        "session.create",
        f"agent_id={AGENT}",
        "session_type=conversation",
        "status=active",
        context={"user_id": "u-1", "topic": "review", "message_count": 0},
    )
    assert talk["context"]["message_count"] == 0

    checkpoint = {"last_completed_step": 3, "files_modified": ["a", "b"], "pending_actions": ["test", "commit"]}
    saved = call(fleet, "session.update", session, checkpoint=checkpoint)
    assert saved["checkpoint"] == checkpoint
    assert saved["updates"] == ["checkpoint"]

    merged = call(
        fleet, "session.update", session, context={"current_task": "Tests", "files_open": ["t.tsx"], "progress": 0.75}
    )
    assert merged["context"] == {
        "working_directory": "/project",
        "current_task": "Tests",
        "files_open": ["t.tsx"],
        "progress": 0.75,
    }, "merged, where the service of the seed replaced"

    recent = call(fleet, "session.list", f"agent_id={AGENT}", "limit=10")
    assert [one["id"] for one in recent["items"]] == [talk["id"], development["id"]]
    assert len(call(fleet, "session.list", "limit=20")["items"]) >= 2

    assert call(fleet, "session.update", session, "status=completed")["status"] == "completed"
    crashed = call(fleet, "session.update", f"session_id={talk['id']}", "status=crashed")
    assert crashed["status"] == "crashed"
    found = call(fleet, "session.list", f"agent_id={AGENT}", "status=crashed")
    assert [one["id"] for one in found["items"]] == [talk["id"]], "what its remaining work asked for"


def test_its_examples_and_their_events(fleet: RunningFleet, heard: list[dict[str, Any]]) -> None:
    made = call(
        fleet,
        "session.create",
        f"agent_id={AGENT}",
        "session_type=task",
        "status=active",
        "runtime_backend=local",
        context={"task_id": "modal"},
    )
    session = f"session_id={made['id']}"
    assert call(fleet, "session.get", session)["context"] == {"task_id": "modal"}
    checkpoint = {"step": 5, "state": {"files": ["a.ts"], "results": None}, "resume_prompt": "Go on"}
    paused = call(fleet, "session.update", session, "status=paused", checkpoint=checkpoint)
    assert (paused["status"], paused["checkpoint"]) == ("paused", checkpoint)
    assert call(fleet, "session.update", session, "status=active")["status"] == "active"
    assert call(fleet, "session.update", session, "status=completed")["status"] == "completed"

    def mine() -> list[dict[str, Any]]:
        return [one for one in heard if one["aggregate_id"] == made["id"]]

    def of_name(name: str) -> dict[str, Any]:
        [found] = [one for one in mine() if one["event_name"] == name]
        return found

    eventually(lambda: mine() and mine()[-1]["event_name"] == "session.completed")
    created = of_name("session.created")
    assert (created["event_type"], created["aggregate_type"]) == ("session.created", "session")
    assert created["payload"] == {"agent_id": AGENT, "session_type": "task", "runtime_backend": "local"}
    updated = of_name("session.paused")
    assert (updated["event_type"], updated["aggregate_type"]) == ("session.updated", "session")
    assert updated["payload"]["agent_id"] == AGENT
    assert updated["payload"]["status"] == "paused"
    assert sorted(updated["payload"]["updates"]) == ["checkpoint", "status"]
