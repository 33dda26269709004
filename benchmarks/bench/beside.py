"""The peers of a run: their database, tables, workers and load processes.

They stay up while others are measured. None of them polls often then: DBOS, which does, lives in its load
process and is launched for each of its jobs. Stopping them (SIGSTOP) would be worse: one stopped in the middle of
a transaction would hold up the relay.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from benchmarks.bench.bare import connected
from benchmarks.bench.ground import Ground
from benchmarks.bench.loads import Loads, Measured
from benchmarks.bench.peers import PEERS, Peer
from benchmarks.bench.shapes import Shape
from workers.home import ROOT

DATABASE = "peers"
LOAD = "benchmarks.bench.peers"
REDIS_DATABASES = (11, 12)
"""Broker and results of the peers' queues, on the same Valkey."""


class Beside:
    """All peers of a run; ``python`` is that of their environment."""

    def __init__(self, ground: Ground, python: Path, say: Callable[[str], None]) -> None:
        self.shapes: list[Shape] = []
        self._ground = ground
        self._loads: dict[str, Loads] = {}
        broker, results = (f"{ground.valkey.url}/{number}" for number in REDIS_DATABASES)
        database = ground.postgres.url_of(DATABASE)
        ground.environ |= {
            "BENCH_PEERS_BROKER": broker,
            "BENCH_PEERS_RESULTS": results,
            "BENCH_PEERS_DATABASE": database,
        }
        db = connected(ground.postgres.url)
        db.autocommit = True
        db.cursor().execute(f"CREATE DATABASE {DATABASE}")
        db.close()
        for peer in PEERS:  # before any of them has a transaction open: one makes indexes concurrently
            say(f"preparing {peer.module}")
            command = [str(python), "-m", LOAD, peer.module, "prepare"]
            subprocess.run(command, cwd=ROOT, env=ground.environ, check=True)
        for peer in PEERS:
            say(f"starting {peer.module}")
            self._start(peer, python)

    def _start(self, peer: Peer, python: Path) -> None:
        for number, arguments in enumerate(peer.workers, start=1):
            self._ground.peers.append(self._ground.process(f"{peer.module}.{number}", python, arguments))
        processes = max(shape.processes for shape in peer.shapes)
        self._loads[peer.module] = Loads(self._ground.environ, processes, [str(python), "-m", LOAD, peer.module])
        for shape in peer.shapes:
            self.shapes.append(shape)
            self.run(shape, 0.5)  # imports and connections; and the proof that it works

    def run(self, shape: Shape, seconds: float) -> Measured:
        """One shape of a peer; see :meth:`Loads.run`."""
        return self._loads[shape.how].run(shape, self._ground, seconds)

    def close(self) -> None:
        """Ends the load processes; the workers end with the ground."""
        for loads in self._loads.values():
            loads.close()
