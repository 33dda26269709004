"""``./fleet events`` as a person uses it: a real command on a real fleet (rows D-12, D-14)."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from subprocess import CompletedProcess
from uuid import uuid4

import pytest
from sqlalchemy import text

from tests.support import RunningFleet
from tests.support.command_line import answer
from tests.support.command_line import run as run_command

Run = Callable[..., "CompletedProcess[str]"]


@pytest.fixture
def run(fleet: RunningFleet) -> Run:
    return partial(run_command, fleet, "events")


def letters(fleet: RunningFleet, session_id: str, count: int) -> list[int]:
    """Dead letters of a session, as a consumer group leaves them; their ids."""
    with fleet.engine.begin() as db:
        statement = text("""
            INSERT INTO event_dead_letters
                (event_id, original_subject, failure_reason, deliveries, envelope, consumer_group, entry_id)
            SELECT gen_random_uuid(), 'stream:events', E'cannot\\nhandle it', 3, CAST(:envelope AS jsonb),
                'git_monitors', :session_id || n
            FROM generate_series(1, :count) AS n RETURNING id
        """)
        envelope = json.dumps({"session_id": session_id, "event_name": "fixed", "seq": 7})
        return list(db.execute(statement, {"envelope": envelope, "session_id": session_id, "count": count}).scalars())


def test_dead_letters_by_hand(run: Run, fleet: RunningFleet) -> None:
    session_id = str(uuid4())
    assert run("dead-letters", "--session", session_id).stdout == "there are no dead letters\n"
    first, second = letters(fleet, session_id, 2)
    heads, *rows = run("dead-letters", "--session", session_id, "--group", "git_monitors").stdout.splitlines()
    assert heads.split() == ["ID", "WHEN", "GROUP", "EVENT", "SESSION", "SEQ", "DELIVERIES", "REASON"]
    assert [row.split()[0] for row in rows] == [str(second), str(first)]
    assert rows[0].split()[3:] == ["git_monitors", "fixed", session_id, "7", "3", "cannot"]
    assert run("dead-letters", "--session", session_id, "--limit", "1").stdout.endswith("--limit shows them\n")
    found = answer(run("dead-letters", "--session", session_id, "--json"))
    assert [one["id"] for one in found["items"]] == [second, first]
    assert run("requeue", str(first)).stdout == f"requeued {first}\n"
    assert run("requeue", str(first)).stdout.startswith(f"skipped {first}: ")
    assert answer(run("requeue", str(second), "--json")) == {"requeued": [second], "skipped": []}
    assert run("dead-letters", "--session", session_id).stdout == "there are no dead letters\n"
    assert "(requeued)" in run("dead-letters", "--session", session_id, "--requeued").stdout
    assert run("discard", str(first)).stdout == "discarded 1\n"
    assert answer(run("discard", str(first), str(second), "--json")) == {"discarded": 1}


def test_replay_by_hand(run: Run, fleet: RunningFleet) -> None:
    session_id = fleet.call("session.create", status="active")["id"]
    fleet.call("session.terminate", session_id=session_id)
    lines = run("replay", "--since", "1h", "--session", session_id).stdout.splitlines()
    assert [line.split()[2:4] for line in lines] == [
        ["#1", "session.created"],
        ["#2", "session.started"],
        ["#3", "session.terminated"],
    ]
    only = run("replay", "--session", session_id, "--type", "session.started", "--json", "--limit", "1").stdout
    assert json.loads(only)["event_name"] == "session.started"
    for since in ("yesterday", "2026-03-29T12:00:00"):
        refused = run("replay", "--since", since)
        assert refused.returncode == 2
        assert "neither an instant" in refused.stderr
