"""A worker killed at each step of a message: claim, effect, commit, answer, acknowledgement (T28, B-13, P-11)."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import make_url, text

from tests.chaos.driver.quiet import left_over
from tests.support import RunningFleet, eventually
from tests.support.asking import events, new
from tests.support.letters import outcome, push, raw_message
from tests.support.private import PrivateFleet
from tests.support.proxy import CHUNK, Proxy
from workers.processes import ManagedProcess

INSERT, COMMIT = b"INSERT INTO session_output", b"COMMIT"


class Trap(Proxy):
    """Lets everything pass until it has seen ``marks``, one after the other, in what goes one way; then nothing
    passes any more. ``hold``: the piece with the last mark does not pass either."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.marks: list[bytes] = []
        self.answers = self.hold = False
        self.sprung = threading.Event()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(CHUNK):
                await self._open.wait()
                last = answers == self.answers and self._springs(piece)
                if last and self.hold:
                    await self._open.wait()
                writer.write(piece)
                await writer.drain()
        writer.transport.abort()

    def _springs(self, piece: bytes) -> bool:
        while self.marks and self.marks[0] in piece:
            del self.marks[0]
            if not self.marks:
                self._open.clear()
                self.sprung.set()
                return True
        return False


@dataclass
class Step:
    """Where a worker is stopped: on its way to which server, at what, before or after that has passed."""

    name: str
    server: Literal["redis", "postgres"]
    marks: list[bytes]
    hold: bool
    answers: bool = False
    committed: bool = False


STEPS = [
    Step("claimed, and the worker does not know", "redis", [b"%TASK%"], hold=True, answers=True),
    Step("before the effect", "postgres", [INSERT], hold=True),
    Step("before the commit", "postgres", [INSERT, COMMIT], hold=True),
    Step("committed, and the worker does not know", "postgres", [INSERT, COMMIT], hold=False, committed=True),
    Step("before the answer", "redis", [b"celery-task-meta-%TASK%"], hold=True, committed=True),
    Step("answered, not acknowledged", "redis", [b"celery-task-meta-%TASK%"], hold=False, committed=True),
]


class Trapped:
    """A sessions worker with a trap on its way to each server."""

    def __init__(self, fleet: RunningFleet) -> None:
        assert fleet.servers.postgres is not None
        assert fleet.servers.valkey is not None
        redis, postgres = fleet.servers.valkey.port, fleet.servers.postgres.port
        self.traps = {"redis": Trap(redis), "postgres": Trap(postgres)}
        for trap in self.traps.values():
            trap.start()
        url = make_url(fleet.settings.database_url).set(port=self.traps["postgres"].port)
        self.process: ManagedProcess = fleet.start(
            "sessions",
            wait=False,
            FLEET_DATABASE_URL=url.render_as_string(hide_password=False),
            FLEET_REDIS_URL=fleet.servers.redis_url.replace(f":{redis}/", f":{self.traps['redis'].port}/"),
        )

    def close(self) -> None:
        for trap in self.traps.values():
            trap.stop()


@contextlib.contextmanager
def trapped(fleet: RunningFleet, count: int) -> Iterator[list[Trapped]]:
    workers = [Trapped(fleet) for _ in range(count)]
    try:
        for worker in workers:
            fleet.ready(worker.process)
        yield workers
    finally:
        for worker in workers:
            worker.close()


def chunks(fleet: RunningFleet, session_id: str) -> list[str]:
    with fleet.engine.connect() as db:
        found = db.execute(text("SELECT content FROM session_output WHERE session_id = :id"), {"id": session_id})
        return list(found.scalars())


def test_killed_at_each_step(private_fleet: PrivateFleet) -> None:
    """One worker after the other is stopped at its step and killed there; the last one finds six messages that
    nobody acknowledged, and each has one effect and its answer."""
    fleet = private_fleet(sessions=1, relay=0)
    [last] = fleet.of("sessions")
    sent: list[tuple[Step, str, str]] = []
    with trapped(fleet, len(STEPS)) as workers:
        sessions = [new(fleet)["id"] for _ in STEPS]
        eventually(lambda: fleet.broker.hlen("unacked") == 0, 60)
        for process in (last, *(worker.process for worker in workers)):
            process.kill(signal.SIGSTOP)
        # Whoever waits would be given the next message, frozen or not.
        fleet.broker.client_kill_filter(_type="normal", skipme=True)
        for step, worker, session_id in zip(STEPS, workers, sessions, strict=True):
            task_id, raw = raw_message("session.append_output", session_id=session_id, content="once\n")
            trap = worker.traps[step.server]
            trap.marks = [mark.replace(b"%TASK%", task_id.encode()) for mark in step.marks]
            trap.hold, trap.answers = step.hold, step.answers
            push(fleet, raw)
            worker.process.kill(signal.SIGCONT)
            assert trap.sprung.wait(60), step.name
            eventually(lambda worker=worker: fleet.broker.hlen("unacked") == len(sent) + 1)
            worker.process.kill_group(signal.SIGKILL)
            worker.process.wait(10)
            trap.cut()
            assert chunks(fleet, session_id) == ["once\n"] * step.committed, step.name
            sent.append((step, task_id, session_id))
        last.kill(signal.SIGCONT)
        for step, task_id, session_id in sent:
            assert outcome(fleet, task_id, 60)["chunk_no"] == 1, step.name
            eventually(lambda session_id=session_id: chunks(fleet, session_id) == ["once\n"], 90)
        eventually(lambda: left_over(fleet).keys() == {"events not published"}, 120, every=0.1)
    for step, task_id, session_id in sent:
        assert chunks(fleet, session_id) == ["once\n"], step.name
        assert len(events(fleet, session_id, "output.received")) == 1, step.name
        assert f"[{task_id}] succeeded" in last.log_text(), f"{step.name}: it came back"
