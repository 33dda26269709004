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
from tests.support.outbox import horizon_passes

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
    first, second = letters(fleet, session_id, 2)
    heads, *rows = run("dead-letters", "--session", session_id, "--group", "git_monitors").stdout.splitlines()
    assert heads.split() == ["ID", "WHEN", "GROUP", "EVENT", "SESSION", "SEQ", "DELIVERIES", "REASON"]
    assert [row.split()[0] for row in rows] == [str(second), str(first)]
    assert rows[0].split()[3:] == ["git_monitors", "fixed", session_id, "7", "3", "cannot"]
    found = answer(run("dead-letters", "--session", session_id, "--json"))
    assert [one["id"] for one in found["items"]] == [second, first]
    both = run("requeue", str(first), str(second)).stdout
    assert both == f"requeued {first}, {second}\n"
    assert answer(run("requeue", str(second), "--json")) == {"requeued": [], "skipped": [second]}
    assert run("dead-letters", "--session", session_id).stdout == "there are no dead letters\n"
    assert run("discard", str(first), str(second)).stdout == "discarded 2\n"


def test_replay_by_hand(run: Run, fleet: RunningFleet) -> None:
    session_id = fleet.call("session.create", status="active")["id"]
    fleet.call("session.terminate", session_id=session_id)
    horizon_passes(fleet)
    lines = run("replay", "--since", "1h", "--session", session_id).stdout.splitlines()
    assert [line.split()[2:4] for line in lines] == [
        ["#1", "session.created"],
        ["#2", "session.started"],
        ["#3", "session.terminated"],
    ]
    only = run("replay", "--session", session_id, "--type", "session.started", "--json", "--limit", "1").stdout
    assert json.loads(only)["event_name"] == "session.started"
    refused = run("replay", "--since", "yesterday")
    assert refused.returncode == 2
    assert "neither an instant" in refused.stderr


def test_a_refusal_names_the_option(run: Run) -> None:
    for words, begin in (
        (["replay", "--session", "mine"], "--session 0: "),
        (["replay", "--type", ""], "--type 0: "),
    ):
        done = run(*words)
        assert (done.returncode, done.stdout) == (1, "")
        assert json.loads(done.stderr)["message"].startswith(begin), done.stderr
