"""One run from its start to its report."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import psutil
from sqlalchemy import text

from sessionfleet import Fleet
from tests.chaos.driver import faults_of_messages, faults_of_processes, faults_of_servers, quiet
from tests.chaos.driver.canary import Canary
from tests.chaos.driver.faults import Drawn, Scene
from tests.chaos.driver.ground import Ground
from tests.chaos.driver.readers import Reader
from tests.chaos.driver.report import Report
from tests.chaos.driver.work import Work

MODULES = (faults_of_processes, faults_of_servers, faults_of_messages)
"""Imported for the faults they declare."""

READERS_THAT_LEAVE = 2
TOGETHER = 0.25
"""Share of faults that have another one beside them."""

CALM = (0.3, 5.0)
"""Seconds between a recovery and the next fault."""


class Run:
    """Use from the main thread."""

    def __init__(self, seed: int, say: Callable[[str], None]) -> None:
        self.seed = seed
        self.say = say
        self.faults: Counter[str] = Counter()
        self._random = random.Random(f"{seed}/faults")
        self._began = time.monotonic()

    def play(self, minutes: float) -> Report:
        """Load and faults for ``minutes`` and until each kind has come, then the look at what became of it."""
        with ExitStack() as stack:
            ground = Ground()
            stack.callback(ground.close)
            clients = [ground.client(), ground.client(proxied=True), ground.client()]
            for client in clients:
                stack.callback(client.close)
            return self._play(ground, clients, minutes)

    def _play(self, ground: Ground, clients: list[Fleet], minutes: float) -> Report:
        direct, proxied, listening = clients
        work = self._work = Work(ground.fleet, [direct, proxied], self.seed)
        canary = Canary(direct, work.home(direct), work.journal)
        readers = [
            Reader(listening, home, leaves=random.Random(f"{self.seed}/{n}") if n < READERS_THAT_LEAVE else None)
            for n, home in enumerate(work.homes)
        ]
        for reader in readers:
            reader.start()
        work.start()
        self._began = time.monotonic()
        self._trouble(Scene(ground, work.hands, self._random), canary, self._began + minutes * 60)
        seconds = time.monotonic() - self._began
        self.say("no more faults; what is under way is finished")
        work.finish(ground.rest)
        left = quiet.becomes_quiet(ground, self.say)
        sent_again = quiet.send_again(ground, work.journal)
        if sent_again:
            left |= quiet.becomes_quiet(ground, self.say)
        canary.sing((), ground.look)
        let_read(ground, readers)
        report = Report(
            seed=self.seed,
            seconds=seconds,
            faults=self.faults,
            recoveries=canary.recoveries,
            sent=work.journal.everything(),
            verdict=work.judge(ground.fleet.engine, readers),
            left=left,
            ends=ground.ends,
            failures=work.failures,
            bounds=bounds(ground),
            malformed=work.hands.malformed,
            sent_again=sent_again,
        )
        if not report.passed:
            report.logs = str(keep_logs(ground))
        return report

    def _trouble(self, scene: Scene, canary: Canary, until: float) -> None:
        """Faults one after the other, some together, each followed by a measured recovery."""
        ground, told = scene.ground, time.monotonic()
        drawn = Drawn(self._random)
        while time.monotonic() < until or drawn.due:
            first = drawn.next()
            together = [first]
            if self._random.random() < TOGETHER:
                together.append(drawn.next(beside=first))
            names = tuple(kind.name for kind in together)
            self.faults.update(names)
            with ExitStack() as stack:
                for kind in together:
                    stack.enter_context(kind.act(scene))
                ground.rest(max(self._random.uniform(*kind.seconds) for kind in together))
            seconds = canary.sing(names, ground.look)
            if time.monotonic() - told > 10 or seconds > 10:
                told = time.monotonic()
                self._progress(names, seconds)
            ground.rest(self._random.uniform(*CALM))

    def _progress(self, names: tuple[str, ...], seconds: float) -> None:
        at = time.monotonic() - self._began
        self.say(
            f"{at:5.0f} s  {self.faults.total()} faults, {len(self._work.journal.sent)} operations; "
            f"last: {' and '.join(names)}, recovered in {seconds:.2f} s"
        )


def let_read(ground: Ground, readers: list[Reader]) -> None:
    """Readers get as far as the sessions have come, then they end."""
    last = {
        reader.session_id: int(ground.fleet.call("session.get", session_id=reader.session_id)["last_seq"])
        for reader in readers
    }
    until = time.monotonic() + 30
    while any(reader.cursor < last[reader.session_id] for reader in readers) and time.monotonic() < until:
        ground.rest(0.1)
    for reader in readers:
        reader.finish()


def bounds(ground: Ground) -> dict[str, float]:
    """What must not grow: memory of the processes (MiB), connections to both servers."""
    largest = 0
    for one in ground.watched:
        if one.process.running:
            process = psutil.Process(one.process.pid)
            largest = max(largest, *(each.memory_info().rss for each in (process, *process.children(recursive=True))))
    with ground.fleet.engine.connect() as db:
        connections = db.execute(text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"))
        postgres = int(connections.scalar_one())
    redis_clients = int(ground.fleet.broker.info("clients")["connected_clients"])
    return {
        "largest process (MiB)": largest // 2**20,
        "PostgreSQL connections": postgres,
        "Redis connections": redis_clients,
    }


def keep_logs(ground: Ground) -> Path:
    """A copy of all logs that stays."""
    kept = Path(tempfile.mkdtemp(prefix="sessionfleet-chaos-"))
    shutil.copytree(ground.fleet.logs, kept / "processes")
    shutil.copytree(ground.postgres.log.parent, kept / "servers")
    return kept
