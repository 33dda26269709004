"""Why a slot ran or did not, in a sentence: pure, from its ledger row and the definition (row H-18)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from reviews import zones
from reviews.ledger import BUFFER, MAX_WAITING
from reviews.occurrences import next_after
from reviews.placement import place
from reviews.rule import Rule
from reviews.starts import slots
from reviews.subject import Subject

Row = Mapping[str, Any]

_BACK = (timedelta(hours=1), timedelta(days=1), timedelta(days=62), timedelta(days=800), timedelta(days=14610))


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of one slot. ``row`` is its ledger row, ``other`` the run that was in its way,
    ``pause`` the audit row of the pause it fell into."""

    subject: Subject
    schedule: Row
    now: datetime
    row: Row | None = None
    other: Row | None = None
    pause: Row | None = None


def slot_of_row(facts: Facts, row: Row) -> tuple[str, str]:
    """Verdict and sentence about a slot that is on the ledger."""
    kind = "The backfilled slot" if row["kind"] == "backfill" else "The slot"
    begin = f"{kind} {shown(row['nominal_utc'], facts.subject.rule)}"
    session = f", session {row['session_id']}" if row["session_id"] else ""
    attempt = f" at attempt {row['attempt']}" if row["attempt"] > 1 else ""
    match row["status"]:
        case "success":
            took = f", took {row['duration_seconds']:.3g} s" if row["duration_seconds"] is not None else ""
            return "ran", f"{begin} ran {_late(row, 'started_at')}{took} and succeeded{attempt}{session}."
        case "failed":
            error = row["error_message"] or "no reason was kept"
            return "failed", f"{begin} ran {_late(row, 'started_at')} and failed{attempt}: {error}{session}."
        case "running":
            return "running", f"{begin} started {_late(row, 'started_at')} and is under way{attempt}{session}."
        case "queued" if row["attempt"]:
            again = f"{row['not_before']:%Y-%m-%d %H:%M:%S} UTC"
            return "queued", f"{begin} failed{attempt} ({row['error_message']}) and is tried again after {again}."
        case "queued":
            return "queued", f"{begin} is queued and waits for a worker of the queue reviews."
    return "skipped", f"{begin} was skipped: {_why(facts, row)}."


def slot_without_row(facts: Facts, nominal: datetime) -> tuple[str, str]:
    """Verdict and sentence about a slot of the recurrence that the ledger does not have."""
    rule, schedule = facts.subject.rule, facts.schedule
    begin = f"The slot {shown(nominal, rule)}"
    if nominal < schedule["created_at"]:
        created = f"{schedule['created_at']:%Y-%m-%d %H:%M:%S} UTC"
        return "before_creation", f"{begin} lies before the schedule was created ({created}); backfill can run it."
    if schedule["deleted_at"] is not None and nominal > schedule["deleted_at"]:
        return "unrecorded", f"{begin} does not come: the schedule was deleted."
    next_run = schedule["next_run"]
    if next_run is None or nominal < next_run:
        return "unrecorded", (
            f"{begin} is a slot of the schedule as it is now but has no row: the schedule did not have it"
            " when it came; backfill can run it."
        )
    if nominal <= facts.now:
        late = (facts.now - nominal).total_seconds()
        return "unsettled", f"{begin} has been due for {late:.3g} s; no dispatch has settled it yet."
    return "future", f"{begin} has not come yet{_prospect(facts, nominal)}."


def no_slot(rule: Rule, at: datetime) -> tuple[str, str]:
    """Verdict and sentence about an instant that is no slot, with its neighbours."""
    before, after = previous(rule, at), next_after(rule, at)
    near = " and ".join(
        f"{word} {shown(slot, rule)}"
        for word, slot in (("before it", before), ("after it", after))
        if slot is not None
    )
    return "not_a_slot", f"{shown(at, rule)} is not a slot of this schedule; " + (
        f"the nearest are {near}." if near else "it has none."
    )


def previous(rule: Rule, instant: datetime) -> datetime | None:
    """The last slot before ``instant``, looked for 40 years back."""
    for back in _BACK:
        found = None
        for found in slots(rule, instant - back, instant):  # noqa: B007 - the last one is wanted
            pass
        if found is not None:
            return found
    return None


def find(rule: Rule, at: datetime) -> datetime | None:
    """The slot at ``at``, or the first within its second, or its minute when it is a whole one."""
    return next(slots(rule, at, at + width(at)), None)


def width(at: datetime) -> timedelta:
    """How exactly an instant was named."""
    if at.microsecond:
        return timedelta(microseconds=1)
    return timedelta(seconds=1 if at.second else 60)


def shown(instant: datetime, rule: Rule) -> str:
    """``2026-03-29 03:30:00 (Europe/Berlin, 01:30:00Z)``, to the second."""
    if rule.timezone == "UTC":
        return f"{instant:%Y-%m-%d %H:%M:%S} UTC"
    local = instant.astimezone(zones.zone(rule.timezone))
    return f"{local:%Y-%m-%d %H:%M:%S} ({rule.timezone}, {instant:%H:%M:%S}Z)"


def _late(row: Row, field: str) -> str:
    if row[field] is None:
        return "at an unknown time"
    late = (row[field] - row["nominal_utc"]).total_seconds()
    return "on time" if late < 1 or row["kind"] == "backfill" else f"{late:.3g} s late"


def _why(facts: Facts, row: Row) -> str:
    late = (row["queued_at"] - row["nominal_utc"]).total_seconds()
    reason, rule = str(row["reason"]), facts.subject.rule
    if reason == "paused":
        return _paused(facts)
    if reason == "overlap" and facts.other is not None:
        return f"overlap with execution {facts.other['execution_id']} ({facts.other['kind']}), which was not over"
    grace = facts.subject.misfire_grace
    bound = f"misfire_grace is {grace} s" if late > grace else "coalesce is none"
    plain = {
        "misfire": f"misfire, it was found {late:.0f} s late and {bound}",
        "coalesced": f"it was found {late:.0f} s late, and another slot ran for all that were missed (coalesced)",
        "overlap": "overlap with a run that was not over, or with a later slot that came in its place",
        "window": f"it lies outside the windows {', '.join(rule.windows)}".rstrip(),
        "blackout": f"it lies in a blackout: {', '.join(rule.blackouts)}".rstrip(": "),
        "deleted": "the schedule was deleted before the run began",
        "limit": _limit(facts.subject),
        "no_capacity": f"{MAX_WAITING:,} runs of its owner waited (no_capacity)",
    }
    return plain.get(reason, reason)


def _limit(subject: Subject) -> str:
    full = f"{BUFFER:,} slots waited" if subject.overlap == "buffer_all" else "max_instances was reached"
    return f"{full}, or max_runs was reached (limit)"


def _paused(facts: Facts) -> str:
    if facts.pause is None:
        note = "" if facts.subject.enabled else facts.schedule.get("pause_note")
        return "the schedule was paused" + (f": {note}" if note else "")
    pause = facts.pause
    by = f" by {pause['actor']}" if pause["actor"] else ""
    note = pause["metadata"].get("note")
    return f"the schedule had been paused since {pause['timestamp']:%Y-%m-%d %H:%M:%S} UTC{by}" + (
        f": {note}" if note else ""
    )


def _prospect(facts: Facts, nominal: datetime) -> str:
    if not facts.subject.enabled:
        return f" and would be skipped: {_paused(facts)}"
    rule = facts.subject.rule
    found = place(rule, facts.subject.schedule_id, nominal, next_after(rule, nominal))
    if found.reason is not None:
        return f" and will be skipped: {found.reason}"
    if found.start is not None and found.start > nominal:
        return f"; it will start {(found.start - nominal).total_seconds():.3g} s later, by jitter or window"
    return ""
