"""Long ranges of a schedule in several calls behind a progress bar, as one answer."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import click

from sessionfleet import Fleet
from sessionfleet.messages.schedule_views import BACKFILL_SLOTS

Document = dict[str, Any]

TIMEOUT = 120.0
"""Seconds for an answer: a year of minutes with windows takes a while on a busy machine."""

STEP = 200
"""Slots of one call of a long backfill, about; a day is split only where it must be."""


def simulated(fleet: Fleet, arguments: Document) -> Document:
    """A year in twelve calls behind a progress bar, when no run can reach from one month into the next."""
    year = arguments.get("year")
    if year is None or arguments["downtime"] or "run_seconds" in arguments or _is_counted(fleet, arguments):
        answer: Document = fleet.call("schedule.simulate", timeout=TIMEOUT, **arguments)
        return answer
    del arguments["year"]
    if arguments.get("definition", {}).get("schedule_type") == "interval":
        arguments["definition"].setdefault("anchor", datetime.now(UTC).isoformat())
    edges = [datetime(year + n // 12, n % 12 + 1, 1) for n in range(13)]  # noqa: DTZ001 - wall time
    parts: list[Document] = []
    with _progress("simulating", 12) as step:
        for start, end in pairwise(edges):
            parts.append(fleet.call("schedule.simulate", timeout=TIMEOUT, **arguments, start=start, end=end))
            step()
    items = [one for part in parts for one in part["items"]]
    limit = arguments["limit"]
    return {
        **parts[0],
        "end": parts[-1]["end"],
        "total": sum(part["total"] for part in parts),
        "runs": sum(part["runs"] for part in parts),
        "skipped": dict(sum((Counter(part["skipped"]) for part in parts), Counter[str]())),
        "months": {name: one for part in parts for name, one in part["months"].items()},
        "items": items[:limit],
        "truncated": len(items) > limit or any(part["truncated"] for part in parts),
    }


def _is_counted(fleet: Fleet, arguments: Document) -> bool:
    """Whether the runs of one month are counted in the next."""
    found = arguments.get("definition") or fleet.call("schedule.get", schedule_id=arguments["schedule_id"])
    return bool(found.get("max_runs"))


def backfilled(fleet: Fleet, given: Document, *, run: bool) -> Document:
    """In pieces behind a progress bar; each is a call, and a repeat of it doubles nothing."""
    pieces = _pieces(fleet, given["schedule_id"], given.pop("start"), given.pop("end"))
    parts: list[Document] = []
    with _progress("queueing" if run else "looking", len(pieces)) as step:
        for first, last in pieces:
            parts.append(fleet.call("schedule.backfill", dry_run=not run, start=first, end=last, **given))
            step()
    return {
        **parts[0],
        "end": parts[-1]["end"],
        "changed": any(part["changed"] for part in parts),
        "found": sum(part["found"] for part in parts),
        "added": sum(part["added"] for part in parts),
        "left_out": dict(sum((Counter(part["left_out"]) for part in parts), Counter[str]())),
        "items": [one for part in parts for one in part["items"]],
    }


def _pieces(fleet: Fleet, schedule_id: str, begin: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """The range cut at midnights of the schedule's zone, and within days that have too many slots for one call."""
    found = fleet.call("schedule.preview", timeout=TIMEOUT, schedule_id=schedule_id, start=begin, end=end, limit=0)
    edges, count = [begin], 0
    days = {datetime.fromisoformat(day): one["runs"] + one["skipped"] for day, one in sorted(found["days"].items())}
    for midnight, slots in days.items():
        if count and count + slots > STEP:
            edges.append(midnight)
            count = 0
        if slots > BACKFILL_SLOTS:
            over = end if midnight == max(days) else midnight + timedelta(days=1)
            edges += _every(STEP, fleet, schedule_id, edges[-1], over)
        count += slots
    return list(zip(edges, [*edges[1:], end], strict=True))


def _every(step: int, fleet: Fleet, schedule_id: str, begin: datetime, end: datetime) -> list[datetime]:
    """Every ``step``-th slot of a range, but for the first."""
    slots: list[str] = []
    start: datetime | str | None = begin
    while start is not None:
        page = fleet.call(
            "schedule.preview", timeout=TIMEOUT, schedule_id=schedule_id, start=start, end=end, limit=10000
        )
        slots += [one["nominal_utc"] for one in page["items"]]
        start = page["next_start"]
    return [datetime.fromisoformat(slot) for slot in slots[step::step]]


@contextmanager
def _progress(label: str, length: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr; nothing when that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield lambda: bar.update(1)
