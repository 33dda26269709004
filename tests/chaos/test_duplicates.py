"""Messages that come more than once, or in another order, or whose sender never heard of them (T14 to T16, T27)."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from celery import Celery
from kombu.exceptions import OperationalError
from sqlalchemy import text

from sessionfleet.errors import FleetError, VersionConflict
from tests.support import RunningFleet, eventually
from tests.support.asking import events, get, new
from tests.support.crowd import at_least
from tests.support.letters import outcome, push, raw_message
from tests.support.proxy import proxy
from workers.supervisor.supervisor import process_environment

MESSAGES, MOST = 12, 10


def answers_of(fleet: RunningFleet, task_ids: list[str]) -> list[object]:
    """Of each task its answer or its typed error."""
    found: list[object] = []
    for task_id in task_ids:
        try:
            found.append(outcome(fleet, task_id, 60))
        except FleetError as error:
            found.append(error)
    return found


def test_the_same_message_up_to_ten_times(fleet: RunningFleet) -> None:
    """T14: byte for byte the same, two workers at once, in any order: one effect each."""
    at_least(fleet, 2)
    session_id = new(fleet)["id"]
    contents = [f"{number}\n" for number in range(MESSAGES)]
    messages = [raw_message("session.append_output", session_id=session_id, content=content) for content in contents]
    chosen = random.Random(14)
    heap = [raw for _, raw in messages for _ in range(chosen.randint(2, MOST))]
    chosen.shuffle(heap)
    for raw in heap:
        push(fleet, raw)
    answers = answers_of(fleet, [task_id for task_id, _ in messages])
    assert sorted(answer["chunk_no"] for answer in answers) == list(range(1, MESSAGES + 1))  # type: ignore[index]
    # Behind all copies: what they did, they have done.
    answers_of(fleet, [raw_message_of_touch(fleet, session_id) for _ in range(2)])
    output = fleet.call("session.read_output", session_id=session_id)["output"]
    assert sorted(output.splitlines(keepends=True)) == sorted(contents)
    assert len(events(fleet, session_id, "output.received")) == MESSAGES


def raw_message_of_touch(fleet: RunningFleet, session_id: str) -> str:
    task_id, raw = raw_message("session.touch", session_id=session_id)
    push(fleet, raw)
    return task_id


def test_messages_in_another_order(fleet: RunningFleet) -> None:
    """T15: whoever names the version it saw is refused once that is not the present one; nobody is overwritten."""
    session = new(fleet)
    first = session["state_version"]
    messages = [
        raw_message("session.update", session_id=session["id"], context={"step": step}, expected_version=first + step)
        for step in range(8)
    ]
    shuffled = messages[1:]
    random.Random(15).shuffle(shuffled)
    for _, raw in [shuffled[0], messages[0], *shuffled[1:]]:
        push(fleet, raw)
    answers = answers_of(fleet, [task_id for task_id, _ in messages])
    done = [step for step, answer in enumerate(answers) if not isinstance(answer, FleetError)]
    assert done == list(range(len(done))), "each saw exactly what those before it had written"
    assert len(done) >= 1
    assert all(isinstance(answer, VersionConflict) for answer in answers[len(done) :])
    after = get(fleet, session["id"])
    assert (after["state_version"], after["context"]) == (first + len(done), {"step": len(done) - 1})


def test_a_sender_that_never_hears_that_it_was_taken(fleet: RunningFleet) -> None:
    """T16: the message arrives, the confirmation does not; sent again under its task id it has one effect."""
    port = int(fleet.settings.broker_url.rpartition(":")[2].partition("/")[0])
    session_id, task_id = new(fleet)["id"], str(uuid4())
    call = {"kwargs": {"session_id": session_id, "content": "once\n"}, "queue": "sessions", "task_id": task_id}
    with proxy(port) as line, Celery(set_as_current=False) as app:
        app.conf.update(
            broker_url=fleet.settings.broker_url.replace(f":{port}/", f":{line.port}/"),
            result_backend=fleet.settings.result_url,
            broker_transport_options={"socket_timeout": 1},
        )
        new_task = app.send_task("session.touch", kwargs={"session_id": session_id}, queue="sessions")
        new_task.get(timeout=60)
        line.deaf = True
        with pytest.raises((OperationalError, OSError)):
            app.send_task("session.append_output", retry=False, **call)
        line.deaf = False
        line.cut()
        sent = app.send_task("session.append_output", retry=True, **call)
        assert sent.get(timeout=60)["chunk_no"] == 1
    fleet.call("session.append_output", session_id=session_id, content="last\n")
    assert fleet.call("session.read_output", session_id=session_id)["output"] == "once\nlast\n"


PRODUCER = """
import json, os, signal, sqlite3, sys
from sessionfleet import Fleet

store, session_id, dies_at = sys.argv[1:]
own = sqlite3.connect(store)

def point(name):
    if name == dies_at:
        os.kill(os.getpid(), signal.SIGKILL)

if not own.execute("SELECT count(*) FROM orders").fetchone()[0]:
    with own:
        own.executemany("INSERT INTO orders VALUES (?, 0)", [(f"{session_id}-{n}",) for n in range(4)])
point("after its commit")
with Fleet.connect(**json.loads(os.environ["SERVERS"])) as fleet:
    for key, in own.execute("SELECT key FROM orders WHERE NOT sent").fetchall():
        fleet.send("session.append_output", session_id=session_id, content=key + "\\n", idempotency_key=key)
        point("after it sent one")
        with own:
            own.execute("UPDATE orders SET sent = 1 WHERE key = ?", (key,))
"""


def test_a_producer_killed_between_its_commit_and_its_sending(fleet: RunningFleet, tmp_path: Path) -> None:
    """T27: its orders are in its own database with their keys; what is not known to be sent is sent again."""
    session_id, store = new(fleet)["id"], tmp_path / "orders"
    with sqlite3.connect(store) as own:
        own.execute("CREATE TABLE orders (key TEXT PRIMARY KEY, sent INT)")
    own.close()
    settings = fleet.settings
    servers = {"broker_url": settings.broker_url, "result_url": settings.result_url, "cache_url": settings.cache_url}
    environ = process_environment(os.environ) | {"SERVERS": json.dumps(servers)}
    ends = [
        subprocess.run(
            [sys.executable, "-c", PRODUCER, str(store), session_id, dies_at], env=environ, timeout=60, check=False
        ).returncode
        for dies_at in ("after its commit", "after it sent one", "after it sent one", "never")
    ]
    assert ends == [-9, -9, -9, 0]
    wanted = sorted(f"{session_id}-{number}\n" for number in range(4))

    def stored() -> list[str]:
        statement = text("SELECT content FROM session_output WHERE session_id = :id")
        with fleet.engine.connect() as db:
            return sorted(db.execute(statement, {"id": session_id}).scalars())

    eventually(lambda: stored() == wanted, 90)
    for _ in range(4):
        fleet.call("session.touch", session_id=session_id)
    assert stored() == wanted
