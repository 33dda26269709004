"""The shapes of seed 001: its sessions, contexts and checkpoints, and the two events it sends (AT-B6, AT-D2)."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from tests.support import RunningFleet
from tests.support.asking import codes, get, refresh, stored, together
from tests.support.listening import Listener

AGENT = "550e8400-e29b-41d4-a716-446655440000"
ALL = "events:session"

CREATES: dict[str, dict[str, Any]] = {
    "development": {
        "agent_id": AGENT,
        "session_type": "development",
        "context": {
            "working_directory": "/project",
            "current_task": "Implement Steam Modal",
            "files_open": ["SteamModal.tsx", "animations.ts"],
        },
        "runtime_backend": "local",
        "runtime_metadata": {"terminal_id": "term-123", "pid": 12345},
    },
    "conversation": {
        "agent_id": AGENT,
        "session_type": "conversation",
        "context": {"user_id": "user-456", "topic": "code review", "message_count": 0},
    },
    "task": {
        "agent_id": AGENT,
        "session_type": "task",
        "context": {"task_id": "implement-modal"},
        "runtime_backend": "local",
    },
}
CONTEXTS: dict[str, dict[str, Any]] = {
    "development": {
        "working_directory": "/project/src",
        "current_task": "Implement animation system",
        "files_open": ["animations.ts", "SteamModal.tsx"],
        "git_branch": "feature/steam-modal",
        "uncommitted_changes": 3,
        "last_command": "npm test",
    },
    "conversation": {
        "user_id": "user-123",
        "topic": "code review",
        "messages": [
            {"role": "user", "content": "Review this PR"},
            {"role": "assistant", "content": "I'll review..."},
        ],
        "files_discussed": ["api.ts"],
    },
    "progress": {
        "working_directory": "/project",
        "current_task": "Testing Steam Modal",
        "files_open": ["SteamModal.test.tsx"],
        "progress": 0.75,
    },
    "focused": {"essential_state": "...", "last_action": "...", "next_step": "..."},
}
CHECKPOINTS: dict[str, dict[str, Any]] = {
    "last completed step": {
        "last_completed_step": 3,
        "files_modified": ["a.ts", "b.ts"],
        "pending_actions": ["run tests", "commit"],
        "recovery_prompt": "Continue implementing modal from step 4",
    },
    "state": {"step": 5, "state": {"files": ["a.ts"]}, "resume_prompt": "Continue from step 5"},
    "snapshot": {
        "step": 3,
        "completed_actions": ["analyze", "design", "implement"],
        "pending_actions": ["test", "review"],
        "state_snapshot": {"files_modified": ["a.ts", "b.ts"], "test_results": None},
        "resume_prompt": "Run tests and complete code review",
    },
    "milestone": {"completed_step": 3, "resume_prompt": "Continue with step 4: testing"},
}


@pytest.mark.parametrize("use", CREATES)
def test_its_sessions_are_created_as_given(fleet: RunningFleet, use: str) -> None:
    """AT-B6 [B-09]: "Start a Development Session", "Track Conversation Session", "Create a session"."""
    wanted = CREATES[use]
    created = fleet.call("session.create", **wanted)
    assert {name: created[name] for name in wanted} == wanted
    assert refresh(fleet, created["id"])["context"] == wanted["context"]


def test_its_contexts_and_checkpoints_are_stored_unchanged(fleet: RunningFleet) -> None:
    """AT-B6 [B-09]: at creation and by a merge into nothing, from cache and from PostgreSQL."""
    for context in CONTEXTS.values():
        for checkpoint in CHECKPOINTS.values():
            made = fleet.call("session.create", context=context, checkpoint=checkpoint)
            later = fleet.call("session.create")
            fleet.call("session.update", session_id=later["id"], context=context, checkpoint=checkpoint)
            for session_id in (made["id"], later["id"]):
                for document in (get(fleet, session_id), refresh(fleet, session_id)):
                    assert (document["context"], document["checkpoint"]) == (context, checkpoint)


def test_its_two_events_have_its_shape(fleet: RunningFleet) -> None:
    """AT-D2 [D-06 R-04]: on `events:session`, payloads with exactly the keys the seed shows."""
    agent_id = str(uuid4())
    with Listener(fleet.cache, ALL) as listener:
        created = fleet.call("session.create", **{**CREATES["development"], "agent_id": agent_id})
        session_id = created["id"]
        fleet.call("session.start", session_id=session_id)
        checkpoint = CHECKPOINTS["last completed step"]
        fleet.call("session.update", session_id=session_id, status="paused", checkpoint=checkpoint)
        fleet.call("session.update", session_id=session_id, status="active")
        fleet.call("session.pause", session_id=session_id)
        heard = listener.until_seq(ALL, session_id, 5)
    keys = ("event_type", "aggregate_type", "aggregate_id", "payload")
    shown = [{key: message[key] for key in keys} for message in heard]
    common = {"aggregate_type": "session", "aggregate_id": session_id}

    def updated(status: str, *updates: str) -> dict[str, Any]:
        payload = {"agent_id": agent_id, "status": status, "updates": list(updates)}
        return {"event_type": "session.updated", **common, "payload": payload}

    assert shown == [
        {
            "event_type": "session.created",
            **common,
            "payload": {"agent_id": agent_id, "session_type": "development", "runtime_backend": "local"},
        },
        updated("active", "status"),
        updated("paused", "status", "checkpoint"),
        updated("active", "status"),
        updated("paused", "status"),
    ]


def test_its_life_of_a_session(fleet: RunningFleet) -> None:
    """The seed's updates one after the other: checkpoint, context, pause, resume, crash, complete, list."""
    agent_id = str(uuid4())
    session_id = fleet.call("session.create", **{**CREATES["task"], "agent_id": agent_id, "status": "active"})["id"]
    crashed_id = fleet.call("session.create", agent_id=agent_id, status="active")["id"]
    steps: list[dict[str, Any]] = [
        {"checkpoint": CHECKPOINTS["last completed step"]},
        {"context": CONTEXTS["progress"]},
        {"status": "paused"},
        {"status": "active"},
        {"checkpoint": CHECKPOINTS["state"]},
        {"status": "completed"},
    ]
    answers = [fleet.call("session.update", session_id=session_id, **step) for step in steps]
    assert [answer["updates"] for answer in answers] == [list(step) for step in steps]
    assert answers[-1]["context"] == {**CREATES["task"]["context"], **CONTEXTS["progress"]}
    fleet.call("session.update", session_id=crashed_id, status="crashed")

    listed = fleet.call("session.list", agent_id=agent_id, limit=10)["items"]
    assert [(item["id"], item["status"]) for item in listed] == [(crashed_id, "crashed"), (session_id, "completed")]
    recent = fleet.call("session.list", limit=20)["items"]
    assert [item["id"] for item in recent[:2]] == [crashed_id, session_id]
    assert [item["created_at"] for item in recent] == sorted((item["created_at"] for item in recent), reverse=True)


def test_what_the_seed_lost_is_refused_or_kept(fleet: RunningFleet) -> None:
    """Its weaknesses: no state machine, a patch replaced the context, null was skipped yet reported."""
    created = fleet.call("session.create", **CREATES["development"], status="active", checkpoint={"step": 1})
    session_id = created["id"]
    merged = fleet.call("session.update", session_id=session_id, context={"progress": 0.5})
    assert merged["context"] == {**CREATES["development"]["context"], "progress": 0.5}
    cleared = fleet.call("session.update", session_id=session_id, checkpoint=None)
    assert (cleared["checkpoint"], cleared["updates"]) == (None, ["checkpoint"])
    fleet.call("session.update", session_id=session_id, status="completed")
    before = stored(fleet, session_id)
    calls = [("session.update", {"session_id": session_id, "status": status}) for status in ("active", "paused")]
    assert codes(together(fleet, calls)) == ["INVALID_TRANSITION"] * 2
    assert stored(fleet, session_id) == before
