"""The table at the end, and the same as JSON."""

from __future__ import annotations

import os
import platform
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.driver.canary import Recovery
from tests.chaos.driver.journal import Sent
from tests.chaos.driver.verdict import Verdict

SHOWN = 10
"""Findings of one kind that are shown; all are in the JSON."""


@dataclass
class Report:
    """One run."""

    seed: int
    seconds: float
    faults: Counter[str]
    recoveries: list[Recovery]
    sent: list[Sent]
    verdict: Verdict
    left: dict[str, int] = field(default_factory=dict)
    ends: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    bounds: dict[str, float] = field(default_factory=dict)
    malformed: int = 0
    sent_again: int = 0
    logs: str = ""

    @property
    def passed(self) -> bool:
        """Nothing lost, nothing doubled, nothing stuck, every rule kept, no process ended by itself."""
        return self.verdict.passed and not (self.left or self.failures or self.ends)

    @property
    def numbers(self) -> dict[str, Any]:
        """What the table shows, by name."""
        outcomes = Counter(entry.outcome for entry in self.sent)
        waits = sorted(one.seconds for one in self.recoveries)
        delays = sorted(seconds for seconds, _ in self.verdict.delays)
        return {
            "operations sent": len(self.sent),
            "messages sent for them": sum(entry.tries * entry.copies for entry in self.sent),
            "answered": outcomes["answered"],
            "answered with the stored answer": sum(entry.replayed for entry in self.sent),
            "accepted, nobody waiting": outcomes["accepted"],
            "given up or ambiguous (0 or 1 effect)": outcomes["unknown"],
            "refused": outcomes["refused"],
            "lost": len(self.verdict.lost),
            "doubled": len(self.verdict.doubled),
            "events stored": self.verdict.events,
            "events followed by readers": self.verdict.followed,
            "events lost": len(self.verdict.events_lost),
            "events doubled": len(self.verdict.events_doubled),
            "rules broken, wrong answers": len(self.verdict.wrong),
            "malformed messages sent": self.malformed,
            "messages put away": self.verdict.put_away,
            "good messages put away, sent again": self.sent_again,
            "most deliveries of one message": self.verdict.deliveries,
            "processes that ended by themselves": len(self.ends),
            "recovery p50 (s)": quantile(waits, 0.5),
            "recovery p99 (s)": quantile(waits, 0.99),
            "recovery worst (s)": quantile(waits, 1),
            "sending to effect p50 (s)": quantile(delays, 0.5),
            "sending to effect p99 (s)": quantile(delays, 0.99),
            "sending to effect worst (s)": quantile(delays, 1),
            **self.bounds,
        }

    @property
    def findings(self) -> dict[str, list[str]]:
        """Everything that is not as it must be, by kind."""
        kinds = {
            "lost": self.verdict.lost,
            "doubled": self.verdict.doubled,
            "events lost": self.verdict.events_lost,
            "events doubled": self.verdict.events_doubled,
            "wrong": self.verdict.wrong,
            "ended by themselves": self.ends,
            "left over": [f"{name}: {count}" for name, count in self.left.items()],
            "driver": self.failures,
        }
        return {kind: lines for kind, lines in kinds.items() if lines}

    def to_json(self) -> dict[str, Any]:
        """Everything, for ``--json``."""
        return {
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "machine": machine(),
            "passed": self.passed,
            "numbers": self.numbers,
            "faults": {
                name: {"times": self.faults[name], "worst": self._worst(name)} for name in sorted(self.faults)
            },
            "findings": self.findings,
            "slowest": sorted(self.verdict.delays, reverse=True)[:SHOWN],
            "logs": self.logs,
        }

    def _worst(self, name: str) -> float:
        return max((round(one.seconds, 2) for one in self.recoveries if name in one.faults), default=0.0)

    def lines(self) -> list[str]:
        """The table: two of Markdown, then the findings."""
        rows = ["| faults | times | worst recovery (s) |", "|---|---|---|"]
        rows += [f"| {name} | {self.faults[name]} | {self._worst(name):.2f} |" for name in sorted(self.faults)]
        rows += [f"| **all** | **{self.faults.total()}** | **{self.numbers['recovery worst (s)']:.2f}** |", ""]
        rows += [f"| {self.seconds / 60:.1f} minutes, seed {self.seed}, {machine()} | |", "|---|---|"]
        rows += [f"| {name} | {value} |" for name, value in self.numbers.items()]
        for kind, found in self.findings.items():
            rows += ["", f"{kind}: {len(found)}", *(f"  {line[:500]}" for line in found[:SHOWN])]
        return [*rows, "", "passed" if self.passed else f"FAILED; logs of all processes: {self.logs}"]


def quantile(ordered: list[float], part: float) -> float:
    """The value below which that part of an ordered list lies; 0 for an empty one."""
    return round(ordered[min(len(ordered) - 1, int(part * len(ordered)))], 3) if ordered else 0.0


def machine() -> str:
    """What ran it, in a few words."""
    return f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
