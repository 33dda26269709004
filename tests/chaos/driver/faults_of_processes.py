"""Processes of the fleet that die, freeze or have a wrong clock."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psutil

from tests.chaos.driver.faults import Scene, fault

CLOCK_AHEAD = 7200


def _kill_one(scene: Scene, line: str) -> None:
    scene.ground.kill(scene.ground.one_of(line, scene.random))


@fault("workers", 14)
@contextmanager
def sessions_worker_killed(scene: Scene) -> Iterator[None]:
    _kill_one(scene, "sessions")
    yield


@fault("workers", 3)
@contextmanager
def all_workers_killed(scene: Scene) -> Iterator[None]:
    for one in scene.ground.of("sessions") + scene.ground.of("maintenance"):
        scene.ground.kill(one)
    yield


@fault("workers", 4)
@contextmanager
def maintenance_worker_killed(scene: Scene) -> Iterator[None]:
    _kill_one(scene, "maintenance")
    yield


@fault("workers", 6)
@contextmanager
def pool_child_killed(scene: Scene) -> Iterator[None]:
    """SIGKILL to a child of the prefork pool; its worker notices and replaces it."""
    for one in scene.ground.of("maintenance"):
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            children = psutil.Process(one.process.pid).children()
            if children:
                os.kill(scene.random.choice(children).pid, signal.SIGKILL)
    yield


@fault("relay", 8)
@contextmanager
def relay_killed(scene: Scene) -> Iterator[None]:
    _kill_one(scene, "relay")
    yield


@fault("beat", 4)
@contextmanager
def beat_killed(scene: Scene) -> Iterator[None]:
    _kill_one(scene, "beat")
    yield


@fault("workers", 5, (1, 14))
@contextmanager
def worker_frozen(scene: Scene) -> Iterator[None]:
    """SIGSTOP for up to longer than the others believe in its life: its messages run elsewhere meanwhile."""
    chosen = scene.ground.one_of("sessions", scene.random)
    chosen.process.kill_group(signal.SIGSTOP)
    yield
    chosen.process.kill_group(signal.SIGCONT)


@fault("relay", 3, (1, 12))
@contextmanager
def relay_frozen(scene: Scene) -> Iterator[None]:
    """SIGSTOP for up to longer than its lease."""
    chosen = scene.ground.one_of("relay", scene.random)
    chosen.process.kill_group(signal.SIGSTOP)
    yield
    chosen.process.kill_group(signal.SIGCONT)


@fault("workers", 2, (6, 12))
@contextmanager
def clock_two_hours_ahead(scene: Scene) -> Iterator[None]:
    """One worker is started again with a wrong clock, and once more with the right one."""
    one = scene.ground.watched[0]
    command = list(one.process.command)
    if one.process.running:
        scene.ground.kill(one)
    skewed = f"-m tests.chaos.skewed_clock {CLOCK_AHEAD}"
    one.process.command = [part.replace("-m celery", skewed) for part in command]
    yield
    if one.process.running:
        scene.ground.kill(one)
    one.process.command = command
