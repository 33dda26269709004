"""Figures with the bar they were asked to reach, and the state of the machine they were measured on."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure. ``least`` and ``most`` are its bar, at most one of them; neither: it is only told."""

    text: str
    value: float
    unit: str = ""
    least: float | None = None
    most: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the bar is reached; None without one."""
        if self.least is not None:
            return self.value >= self.least
        return None if self.most is None else self.value <= self.most

    def to_json(self) -> dict[str, Any]:
        """Everything but the words of the table."""
        found = {"figure": self.text, "value": self.value, "unit": self.unit}
        return found | {"least": self.least, "most": self.most, "met": self.met}

    def line(self) -> str:
        """A row of the Markdown table."""
        bar = ""
        if self.least is not None:
            bar = f"at least {_number(self.least)}"
        elif self.most is not None:
            bar = f"at most {_number(self.most)}"
        verdict = {True: "met", False: "not met", None: ""}[self.met]
        value = f"{_number(self.value)} {self.unit}".strip()
        return f"| {self.text} | {value} | {bar} | {verdict} |"


def figures_table(figures: Sequence[Figure]) -> str:
    """The figures as Markdown, each with its bar beside it."""
    return "\n".join(["| figure | measured | bar | |", "|---|---|---|---|", *(one.line() for one in figures)])


def found(figures: Iterable[Figure], before: tuple[float, float, float], **more: Any) -> dict[str, Any]:
    """What a measurement hands out: machine, figures and whatever else it knows; ``before``: load then."""
    return {"machine": machine(before), "figures": [one.to_json() for one in figures], **more}


def load() -> tuple[float, float, float]:
    """Load averages of 1, 5 and 15 minutes: how many processes wanted a core at once."""
    return os.getloadavg()


def machine(before: tuple[float, float, float]) -> dict[str, Any]:
    """What the figures depend on; at the end of a measurement, with the load at its start."""
    return {
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_before": [round(one, 2) for one in before],
        "load_after": [round(one, 2) for one in load()],
    }


def machine_line(described: dict[str, Any]) -> str:
    """A sentence for readers; what was busy before the start was busy with something else."""
    before, after = (" ".join(map(str, described[name])) for name in ("load_before", "load_after"))
    return (
        f"{described['cores']} cores, {described['system']}, Python {described['python']}; load average (1, 5, 15"
        f" minutes) {before} before, {after} after. Before counts: on a busy machine no figure is one of ours."
    )


def figures_of(answer: dict[str, Any]) -> list[Figure]:
    """The figures of an answer of :func:`found`."""
    return [Figure(one["figure"], one["value"], one["unit"], one["least"], one["most"]) for one in answer["figures"]]


def percentile(values: Sequence[float], part: float) -> float:
    """Of sorted values; 0 for none."""
    return values[min(len(values) - 1, int(len(values) * part))] if values else 0.0


def _number(value: float) -> str:
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:,.2f}" if abs(value) >= 0.1 else f"{value:.4f}"
