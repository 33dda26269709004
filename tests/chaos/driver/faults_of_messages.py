"""Messages that come twice, in another order, late, or are none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.chaos.driver.faults import Scene, fault
from tests.support.malformed import shapes

SHAPES = shapes("sessions", "session.touch")


@fault("messages", 8)
@contextmanager
def messages_copied(scene: Scene) -> Iterator[None]:
    """Each 2 to 10 times, all in any order."""
    scene.hands.copies(messages=scene.random.randint(1, 8), most=10)
    yield


@fault("messages", 4)
@contextmanager
def old_messages_again(scene: Scene) -> Iterator[None]:
    scene.hands.old_ones(most=20)
    yield


@fault("messages", 6)
@contextmanager
def messages_malformed(scene: Scene) -> Iterator[None]:
    names = scene.random.sample(sorted(SHAPES), scene.random.randint(1, 6))
    scene.hands.nonsense([SHAPES[name] for name in names])
    yield
