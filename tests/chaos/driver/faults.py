"""What a fault is, and which one comes next."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tests.chaos.driver.ground import Ground
from tests.chaos.driver.raw import Hands


@dataclass(frozen=True)
class Scene:
    """What a fault may touch."""

    ground: Ground
    hands: Hands
    random: random.Random


Act = Callable[[Scene], AbstractContextManager[None]]


@dataclass(frozen=True)
class Fault:
    """One kind: it begins with the context, lasts some of ``seconds`` (least, most) and ends with it.

    ``target``: two faults of one target never happen together.
    """

    name: str
    weight: int
    target: str
    seconds: tuple[float, float]
    act: Act


KINDS: dict[str, Fault] = {}
"""Every kind of fault by name, filled as the modules ``faults_of_*`` are imported."""


def fault(target: str, weight: int, seconds: tuple[float, float] = (0, 0)) -> Callable[[Act], Act]:
    """Declares a context manager ``f(scene)`` as a kind of fault, named like the function."""

    def declare(act: Act) -> Act:
        name = act.__name__.replace("_", " ")
        KINDS[name] = Fault(name, weight, target, seconds, act)
        return act

    return declare


class Drawn:
    """Which fault comes next: each kind once, in an order that is drawn, then by weight."""

    def __init__(self, choice: random.Random) -> None:
        self._random = choice
        self._due = list(KINDS.values())
        choice.shuffle(self._due)

    @property
    def due(self) -> bool:
        """Whether a kind has not come yet."""
        return bool(self._due)

    def next(self, *, beside: Fault | None = None) -> Fault:
        """``beside``: one that may happen together with another."""
        for kind in self._due:
            if _fits(kind, beside):
                self._due.remove(kind)
                return kind
        fitting = [kind for kind in KINDS.values() if _fits(kind, beside)]
        [chosen] = self._random.choices(fitting, [kind.weight for kind in fitting])
        return chosen


def _fits(kind: Fault, beside: Fault | None) -> bool:
    return beside is None or kind.target != beside.target
