"""A range as the ledger would see it: which slots run, which are skipped, and why (row H-18). Pure.

Between downtimes a slot is settled at its nominal time. The slots of a downtime are settled together at
its end, as a dispatcher that comes back settles them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from reviews import zones
from reviews.ledger import MAX_CATCHUP, ON_TIME, overlapping
from reviews.preview import Document, bounded, head, item
from reviews.simulate_runs import Runs
from reviews.starts import Start, starts
from reviews.subject import Subject

Downtime = tuple[datetime, datetime]


def fates(
    subject: Subject, begin: datetime, end: datetime, downtime: Sequence[Downtime] = (), run_seconds: float = 0
) -> Iterator[Start]:
    """What becomes of each slot in [``begin``, ``end``), in order; a late one starts at the end of its downtime.

    Every run takes ``run_seconds`` and goes well. Raises ValidationFailed for more slots than a range may have.
    """
    runs = Runs(subject.overlap, subject.max_instances, timedelta(seconds=run_seconds), subject.run_count)
    spans = _Spans(downtime)
    found = bounded(starts(subject.rule, subject.schedule_id, begin, end))
    for settled, batch in groupby(found, key=lambda one: spans.settled(one.nominal)):
        yield from _settle(subject, list(batch), settled, runs)


def simulate(
    subject: Subject, fated: Iterator[Start], begin: datetime, end: datetime, show: str, limit: int
) -> Document:
    """The answer to schedule.simulate: counts of all, and at most ``limit`` slots of the kind to ``show``."""
    tz = zones.zone(subject.rule.timezone)
    skipped: Counter[str] = Counter()
    months: dict[str, dict[str, Any]] = {}
    shown: list[Document] = []
    total = wanted = 0
    for one in fated:
        total += 1
        local = one.nominal.astimezone(tz)
        month = months.setdefault(f"{local.year:04}-{local.month:02}", {"runs": 0, "skipped": 0})
        month["runs" if one.reason is None else "skipped"] += 1
        if one.reason is not None:
            skipped[one.reason] += 1
        if show == "all" or (show == "runs") == (one.reason is None):
            wanted += 1
            if len(shown) < limit:
                shown.append(item(one, tz))
    return {
        **head(subject),
        "start": begin.isoformat(),
        "end": end.isoformat(),
        "total": total,
        "runs": total - skipped.total(),
        "skipped": dict(skipped),
        "months": months,
        "items": shown,
        "truncated": wanted > len(shown),
    }


class _Spans:
    """Downtimes, merged, walked once: asked with ascending instants."""

    def __init__(self, spans: Sequence[Downtime]) -> None:
        merged: list[Downtime] = []
        for begin, end in sorted(spans):
            if merged and begin <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], end))
            else:
                merged.append((begin, end))
        self._left = merged[::-1]

    def settled(self, nominal: datetime) -> datetime:
        """When a slot is settled. One at the very end of a downtime belongs to it: it is due by then."""
        while self._left and self._left[-1][1] < nominal:
            self._left.pop()
        return self._left[-1][1] if self._left and self._left[-1][0] <= nominal else nominal


def _settle(subject: Subject, batch: Sequence[Start], settled: datetime, runs: Runs) -> Iterator[Start]:
    on_time = settled == batch[0].nominal
    chosen = frozenset((settled,)) if on_time else _chosen(subject, batch, settled)
    policy = overlapping(subject.overlap, subject.max_instances, 0)
    latest = max(chosen, default=None) if policy.get("latest_wins") else None
    room = runs.room(settled)
    for one in batch:
        reason, start = _reason(subject, one, settled), None
        if reason is None and one.nominal not in chosen:
            reason = "misfire" if subject.coalesce == "none" else "coalesced"
        if reason is None and latest is not None and one.nominal != latest:
            reason = "overlap"
        if reason is None and subject.max_runs is not None and runs.count >= subject.max_runs:
            reason = "limit"
        elif reason is None and room <= 0:
            reason = policy["full"]
        if reason is None and one.start is not None:
            start, room = runs.start(max(one.start, settled)), room - 1
        yield Start(one.nominal, start, reason)


def _reason(subject: Subject, one: Start, settled: datetime) -> str | None:
    if not subject.enabled:
        return "paused"
    if settled - one.nominal > max(timedelta(seconds=subject.misfire_grace), ON_TIME):
        return "misfire"
    return one.reason


def _chosen(subject: Subject, batch: Sequence[Start], settled: datetime) -> frozenset[datetime]:
    """The slots of a batch that run, so far as being late is concerned."""
    fit = [one.nominal for one in batch if _reason(subject, one, settled) is None]
    match subject.coalesce:
        case "none":
            return frozenset(nominal for nominal in fit if settled - nominal <= ON_TIME)
        case "earliest":
            return frozenset(fit[:1])
        case "all":
            return frozenset(fit[-MAX_CATCHUP:])
    return frozenset(fit[-1:])
