"""What a run tells at its end: where its time went, and in a few lines why a test failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.home import ROOT

FAILURES = "fleet/failures"
"""Name in pytest's cache: the reasons of the last run by test, for ``fleet test``."""

LONGEST = 12
"""Files that are named with their times."""

LINES, WIDTH = 14, 240
"""Of a reason: the first four lines and the last ones, each cut."""


class Telling:
    """Reports as they come in; times are of setup, test and teardown together."""

    def __init__(self) -> None:
        self.reasons: dict[str, list[str]] = {}
        self.files: Counter[str] = Counter()
        self.processes: Counter[str] = Counter()

    def note(self, report: pytest.TestReport) -> None:
        node = getattr(report, "node", None)
        self.processes["all" if node is None else node.gateway.id] += report.duration
        self.files[report.nodeid.partition("::")[0]] += report.duration
        if report.failed:
            self.reasons.setdefault(report.nodeid, reason(report))

    def lines(self) -> Iterator[str]:
        """Nothing for a run of a few files."""
        if len(self.files) > LONGEST:
            shares = ", ".join(f"{name} {seconds:.0f}" for name, seconds in sorted(self.processes.items()))
            yield f"seconds of each process: {shares}; of the longest files:"
            yield from (f"{seconds:7.1f}  {name}" for name, seconds in self.files.most_common(LONGEST))


def reason(report: pytest.TestReport) -> list[str]:
    """Where and why a test failed. What a process said that the test ran stands in the message of the test's
    assertion: its last lines matter most."""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is None:
        lines = str(report.longrepr).splitlines()
    else:
        path = Path(crash.path)
        where = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        lines = f"{where}:{crash.lineno}: {crash.message}".splitlines()
    if len(lines) > LINES:
        lines = [*lines[:4], "...", *lines[5 - LINES :]]
    return [f"{line[:WIDTH]}..." if len(line) > WIDTH else line for line in lines]
