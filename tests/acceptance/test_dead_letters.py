"""Messages nobody could take are kept, shown, sent again, forgotten; deadly ones have a limit (rows D-18, P-11)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import text

from broker.quarantine import Entry
from sessionfleet.errors import (
    DeadLetterNotFound,
    DeliveryLimit,
    FleetError,
    Internal,
    TimeLimit,
    UnknownOperation,
    ValidationFailed,
)
from tests.support import RunningFleet, eventually
from tests.support.command_line import answer
from tests.support.command_line import run as run_command
from tests.support.letters import letters, outcome, push, raw_message
from tests.support.private import PrivateFleet
from workers.home import ROOT
from workers.processes import ManagedProcess
from workers.supervisor.supervisor import process_environment


def test_an_unknown_operation_is_parked_and_runs_when_it_is_known(fleet: RunningFleet) -> None:
    """Its caller is answered at once; requeued it comes back while nobody knows it, counted, still one row."""
    name = f"session.of_tomorrow_{uuid4().hex}"
    task_id, raw = raw_message(name, session_id="x")
    push(fleet, raw)
    with pytest.raises(UnknownOperation) as refused:
        outcome(fleet, task_id)
    assert refused.value.details == {"operation": name}
    [letter] = eventually(lambda: letters(fleet, task_name=name))
    assert (letter["queue"], letter["task_id"], letter["reason"]) == ("sessions", task_id, f"unknown task {name}")
    assert (letter["seen"], letter["deliveries"], letter["size"]) == (1, 1, len(raw))
    shown = fleet.call("deadletter.show", id=letter["id"])
    assert (shown["raw"], shown["encoding"], shown["complete"]) == (raw.decode(), "utf-8", True)

    requeued = fleet.call("deadletter.requeue", ids=[letter["id"]], idempotency_key="once")
    assert requeued == {"requeued": [letter["id"]], "skipped": []}
    [again] = eventually(lambda: [one for one in letters(fleet, task_name=name) if one["seen"] == 2])
    assert again["id"] == letter["id"]
    assert again["requeued_at"] < again["last_seen_at"]
    assert fleet.call("deadletter.discard", ids=[letter["id"], 2**62]) == {"discarded": 1}
    assert letters(fleet, task_name=name) == []
    with pytest.raises(DeadLetterNotFound):
        fleet.call("deadletter.show", id=letter["id"])


def test_requeued_once_and_run(fleet: RunningFleet) -> None:
    """A message that waits in quarantine for a better day runs when it is requeued, once however often asked."""
    task_id, raw = raw_message("session.create", agent_id="of a letter")
    entry = Entry(raw, "its worker was asked to", "sessions", time.time())
    fleet.broker.lpush("_fleet.quarantine", entry.dumps())
    [letter] = [one for one in letters(fleet) if one["task_id"] == task_id]
    assert fleet.call("deadletter.requeue", ids=[letter["id"]])["requeued"] == [letter["id"]]
    assert fleet.call("deadletter.requeue", ids=[letter["id"]]) == {"requeued": [], "skipped": [letter["id"]]}
    assert outcome(fleet, task_id)["agent_id"] == "of a letter"
    assert letter["id"] not in {one["id"] for one in letters(fleet)}
    [shown] = [one for one in letters(fleet, requeued=True) if one["id"] == letter["id"]]
    assert shown["requeued_at"] is not None
    assert len(fleet.call("session.list", agent_id="of a letter")["items"]) == 1


def test_anything_in_the_list_becomes_one_row(fleet: RunningFleet) -> None:
    """Bytes that are no entry, entries out of range and an entry read twice stop no drain and are counted once."""
    mark = uuid4().hex
    good = Entry(f"raw {mark}".encode(), f"reason {mark} \x00 \ud800", "q", 1.8e9, 3).dumps()
    odd = [mark.encode() + b"\xff\x00", b'{"at": 1e300, "reason": "%s", "queue": "q"}\nx' % mark.encode(), good, good]
    fleet.broker.lpush("_fleet.quarantine", *odd)
    eventually(lambda: fleet.call("maintenance.drain_quarantine") == {"kept": 0})
    with fleet.engine.connect() as db:
        rows = db.execute(
            text("SELECT raw, reason, seen, deliveries FROM message_dead_letters WHERE position(:mark IN raw) > 0"),
            {"mark": mark.encode()},
        ).all()
    kept = {bytes(row.raw): (row.reason, row.seen, row.deliveries) for row in rows}
    unreadable = "unreadable entry of the quarantine list"
    assert kept.pop(f"raw {mark}".encode())[1:] == (1, 3)
    assert kept == {odd[0]: (unreadable, 1, 1), odd[1]: (unreadable, 1, 1)}


def test_paging_and_choosing(fleet: RunningFleet) -> None:
    """Latest first, each once, by queue, task and reason; a cursor of somebody else is refused."""
    names = [f"nobody.knows_{uuid4().hex}" for _ in range(5)]
    for name in names:
        push(fleet, raw_message(name)[1])
        eventually(lambda name=name: letters(fleet, task_name=name))
    found, cursor = [], None
    while True:
        page = fleet.call("deadletter.list", limit=2, reason="nobody.knows_", from_queue="sessions", cursor=cursor)
        found += [one["task_name"] for one in page["items"] if one["task_name"] in names]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert found == names[::-1]
    first = run_command(fleet, "deadletter", "list", "--limit", "1").stdout.splitlines()
    assert (len(first), first[-1]) == (3, "(there are more: raise --limit)")
    with pytest.raises(ValidationFailed):
        fleet.call("deadletter.list", cursor="yesterday")


def test_by_hand(fleet: RunningFleet) -> None:
    name = f"by.hand_{uuid4().hex}"
    push(fleet, raw_message(name)[1])
    [letter] = eventually(lambda: letters(fleet, task_name=name))
    done = run_command(fleet, "deadletter", "list", "--task", name)
    [heads, line] = done.stdout.splitlines()
    assert heads.split()[0] == "ID"
    assert line.split()[0] == str(letter["id"])
    assert f"unknown task {name}" in line
    assert answer(run_command(fleet, "deadletter", "list", "--task", name, "--json"))["items"] == [letter]
    assert answer(run_command(fleet, "deadletter", "show", str(letter["id"])))["task_name"] == name
    requeue = ("deadletter", "requeue", str(letter["id"]))
    assert run_command(fleet, *requeue).stdout == f"requeued {letter['id']}\n"
    eventually(lambda: [one for one in letters(fleet, task_name=name) if one["seen"] == 2])
    assert run_command(fleet, "deadletter", "discard", str(letter["id"]), str(2**62)).stdout == "discarded 1\n"
    assert answer(run_command(fleet, *requeue, "--json")) == {"requeued": [], "skipped": [letter["id"]]}
    because = "not there, requeued before, cut or without a queue"
    assert run_command(fleet, *requeue).stdout == f"skipped {letter['id']}: {because}\n"
    assert answer(run_command(fleet, "deadletter", "discard", str(letter["id"]), "--json")) == {"discarded": 0}
    assert run_command(fleet, "deadletter", "list", "--task", name).stdout == "no message was put away\n"
    done = run_command(fleet, "deadletter", "show", str(letter["id"]))
    assert (done.returncode, json.loads(done.stderr)["code"]) == (1, "DEAD_LETTER_NOT_FOUND")


def test_an_expired_message_is_kept_a_tick_is_not(fleet: RunningFleet) -> None:
    """A caller's message that nobody took in time is a loss somebody may want to see; a tick of beat is none."""
    for name in ("session.create", "maintenance.cleanup_stale"):
        task_id, raw = raw_message(name)
        message = json.loads(raw)
        message["headers"]["expires"] = "2020-01-01T00:00:00+00:00"
        push(fleet, json.dumps(message).encode())
        found = eventually(lambda name=name: fleet.broker.llen("sessions") == 0 and letters(fleet))
        kept = [one for one in found if one["task_id"] == task_id]
        assert [one["reason"] for one in kept] == (
            ["expired before it was started"] if name == "session.create" else []
        )


DEADLY = ("os._exit", "segfault", "out of memory")
"""Ways that take the process with them."""


class Deadly:
    """Workers with tasks that end their process."""

    def __init__(self, fleet: RunningFleet, notes: Path) -> None:
        self.fleet = fleet
        self.notes = notes
        notes.touch()
        self.number = 0

    def start(self, *pool: str) -> ManagedProcess:
        self.number += 1
        command = [sys.executable, "-m", "celery", "-A", "tests.support.deadly_app", "worker", *pool]
        process = ManagedProcess(
            f"deadly.{self.number}",
            [*command, "-Q", "maintenance,sessions", "-n", f"deadly{self.number}@test", "--without-gossip"],
            env=process_environment(self.fleet.env) | {"DEADLY_NOTES": str(self.notes)},
            cwd=ROOT,
            log=self.fleet.logs / f"deadly.{self.number}.log",
        )
        self.fleet.processes.append(process)
        process.start()
        return process

    def send(self, how: str) -> str:
        task_id, raw = raw_message("test.end", "maintenance", how=how)
        push(self.fleet, raw, "maintenance")
        return task_id

    def starts(self, how: str) -> int:
        return self.notes.read_text().split("\n").count(how)


@pytest.fixture
def deadly(private_fleet: PrivateFleet, tmp_path: Path) -> Callable[..., Deadly]:
    return lambda **settings: Deadly(private_fleet(sessions=0, relay=0, **settings), tmp_path / "notes")


def test_a_message_that_ends_its_worker_is_started_five_times(deadly: Callable[..., Deadly]) -> None:
    """A segmentation fault in the worker's own process: it comes back after each death, counted in PostgreSQL
    before its code runs; the sixth delivery is refused with a typed error and the message is put away. Requeued,
    it has five tries again."""
    test = deadly()
    task_id = test.send("segfault")
    for started in range(1, 6):
        worker = test.start("--pool", "solo", "-c", "1")
        worker.wait(60)
        assert test.starts("segfault") == started
    worker = test.start("--pool", "solo", "-c", "1")
    with pytest.raises(DeliveryLimit) as refused:
        outcome(test.fleet, task_id, 60)
    assert refused.value.details["deliveries"] == 5
    assert test.starts("segfault") == 5
    assert worker.running
    [letter] = eventually(lambda: letters(test.fleet, task_name="test.end"))
    assert (letter["task_id"], letter["deliveries"]) == (task_id, 5)
    assert letter["reason"].startswith("DELIVERY_LIMIT")
    assert test.fleet.call("deadletter.requeue", ids=[letter["id"]])["requeued"]
    worker.wait(60)
    assert test.starts("segfault") == 6


def test_a_message_that_ends_children(deadly: Callable[..., Deadly]) -> None:
    """Each kind of end in a child: the worker lives, the caller gets a typed error, what died four times is kept;
    an endless loop ends at its limit [T2, T3, T4]."""
    # A limit longer than the 5 s after which a dead child is noticed at the latest.
    test = deadly(FLEET_TASK_TIME_LIMIT="12", FLEET_VISIBILITY_TIMEOUT="60")
    worker = test.start("--pool", "prefork", "-c", "3")
    ids = {how: test.send(how) for how in ("exit", "memory", "limit", "loop", "live", *DEADLY)}

    def error(how: str) -> FleetError:
        with pytest.raises(FleetError) as refused:
            outcome(test.fleet, ids[how], 60)
        return refused.value

    assert outcome(test.fleet, ids["live"], 60) == {"lived": True}
    for how in ("memory", "limit"):
        assert type(error(how)) is Internal
        assert error(how).details["reason"] == "out of memory"
    assert type(error("exit")) is Internal
    assert type(error("loop")) is TimeLimit
    for how in DEADLY:
        assert type(error(how)) is DeliveryLimit
        assert test.starts(how) == error(how).details["deliveries"] == 4
    kept = eventually(lambda: len(found := letters(test.fleet, task_name="test.end")) == 3 and found)
    assert {one["task_id"] for one in kept} == {ids[how] for how in DEADLY}
    assert worker.running
    assert [test.starts(how) for how in ("exit", "memory", "limit", "loop")] == [1, 1, 1, 1]


def test_in_a_solo_worker(deadly: Callable[..., Deadly]) -> None:
    """sys.exit, MemoryError and an endless loop end their task with a typed error and not the worker."""
    test = deadly(FLEET_TASK_TIME_LIMIT="3", FLEET_VISIBILITY_TIMEOUT="60")
    worker = test.start("--pool", "solo", "-c", "1")
    for how, kind in (("exit", Internal), ("memory", Internal), ("loop", TimeLimit)):
        with pytest.raises(kind):
            outcome(test.fleet, test.send(how), 60)
    assert outcome(test.fleet, test.send("live")) == {"lived": True}
    assert worker.running
