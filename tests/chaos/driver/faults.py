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


def choose(choice: random.Random, *, beside: Fault | None = None) -> Fault:
    """The next one by weight; ``beside``: one that may happen together with another."""
    fitting = [kind for kind in KINDS.values() if beside is None or kind.target != beside.target]
    [chosen] = choice.choices(fitting, [kind.weight for kind in fitting])
    return chosen
