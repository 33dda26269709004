"""schedule.next_run, preview, simulate, explain and backfill on stored schedules and definitions (row H-18)."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection

from reviews import documents, zones
from reviews import explain as tell
from reviews.backfill import choose
from reviews.occurrences import next_after
from reviews.preview import Document, next_run, preview, span
from reviews.simulate import Downtime, fates, simulate
from reviews.store import executions, schedules, slots
from reviews.subject import Subject
from sessionfleet.errors import ValidationFailed, VersionConflict
from sessionfleet.messages import schedule_views as m


def coming(db: Connection, command: m.NextRun, grace: int) -> Document:
    """The next slots (H-04)."""
    now, subject = _looked_at(db, command, grace)
    after = now if command.after is None else subject.instant(command.after)
    return next_run(subject, after, command.limit)


def previewed(db: Connection, command: m.PreviewSchedule, grace: int) -> Document:
    """The slots of a range."""
    now, subject = _looked_at(db, command, grace)
    begin, end = span(subject, command.year, command.start, command.end, now)
    return preview(subject, begin, end, command.limit)


def simulated(db: Connection, command: m.SimulateSchedule, grace: int) -> Document:
    """A range as the ledger would see it."""
    now, subject = _looked_at(db, command, grace)
    begin, end = span(subject, command.year, command.start, command.end, now)
    downtime = [_downtime(subject, one) for one in command.downtime]
    fated = fates(subject, begin, end, downtime, command.run_seconds)
    return simulate(subject, fated, begin, end, command.show, command.limit)


def explained(db: Connection, command: m.ExplainSchedule, grace: int) -> Document:
    """Why one slot ran or did not; also of a deleted schedule."""
    now = slots.clock(db)
    schedule = slots.schedule(db, command.schedule_id, deleted=True)
    subject = Subject.of_row(_on_its_grid(db, schedule), grace)
    at = None if command.at is None else subject.instant(command.at)
    if at is None:
        row = slots.latest(db, command.schedule_id)
        at = None if row is None else row["nominal_utc"]
    else:
        row = slots.within(db, command.schedule_id, at, at + tell.width(at))
    facts = tell.Facts(
        subject=subject,
        schedule=schedule,
        now=now,
        row=row,
        other=slots.in_the_way(db, row) if row is not None and row["reason"] == "overlap" else None,
        pause=slots.paused_since(db, command.schedule_id, now if row is None else row["queued_at"]),
    )
    nominal, (verdict, sentence) = _verdict(facts, at)
    around = nominal or at or now
    return {
        "schedule_id": command.schedule_id,
        "verdict": verdict,
        "sentence": sentence,
        "nominal_utc": _iso(nominal),
        "local": None if nominal is None else nominal.astimezone(zones.zone(subject.rule.timezone)).isoformat(),
        "execution": None if row is None else documents.execution(row),
        "before": _iso(tell.previous(subject.rule, around)),
        "after": _iso(next_after(subject.rule, around)),
    }


def backfilled(db: Connection, command: m.BackfillSchedule, now: datetime, grace: int) -> Document:
    """Queue the slots of a range that have no run. The schedule is locked, so neither a dispatcher nor another
    backfill settles one of them meanwhile; the dispatcher sends the runs."""
    schedule = schedules.lock(db, command.schedule_id)
    if command.expected_version not in (None, schedule["version"]):
        raise VersionConflict(
            message=f"Schedule {command.schedule_id} is at version {schedule['version']}.",
            schedule_id=command.schedule_id,
            expected=command.expected_version,
            current=schedule["version"],
        )
    subject = Subject.of_row(_on_its_grid(db, schedule), grace)
    begin, end = subject.instant(command.start), subject.instant(command.end)
    if end <= begin:
        raise ValidationFailed.of("end", "is not after the begin of the range")
    if end > now:
        raise ValidationFailed.of("end", f"lies in the future; it is {now.isoformat()}")
    chosen = choose(
        subject,
        begin,
        end,
        lambda: slots.taken(db, command.schedule_id, begin, end),
        next_run=schedule["next_run"],
        include_skipped=command.include_skipped,
    )
    ids = {one.nominal: f"backfill_{uuid4().hex}" for one in chosen if one.reason is None and not command.dry_run}
    executions.add(db, [_row(command.schedule_id, nominal, ids[nominal], now) for nominal in ids])
    tz = zones.zone(subject.rule.timezone)
    left_out = Counter(one.reason for one in chosen if one.reason is not None)
    return {
        "schedule_id": command.schedule_id,
        "changed": bool(ids),
        "dry_run": command.dry_run,
        "start": begin.isoformat(),
        "end": end.isoformat(),
        "found": len(chosen),
        "added": len(chosen) - left_out.total(),
        "left_out": dict(left_out),
        "items": [
            {
                "nominal_utc": one.nominal.isoformat(),
                "local": one.nominal.astimezone(tz).isoformat(),
                "execution_id": ids.get(one.nominal),
                "reason": one.reason,
            }
            for one in chosen
        ],
    }


def _looked_at(db: Connection, command: m.Viewed, grace: int) -> tuple[datetime, Subject]:
    """The time, and what the rest is computed from. That may take longer than the server leaves an idle transaction
    alone, so there is none from here on."""
    now = slots.clock(db)
    subject = _subject(db, command, now, grace)
    db.rollback()
    return now, subject


def _subject(db: Connection, command: m.Viewed, now: datetime, grace: int) -> Subject:
    if command.definition is not None:
        return Subject.of_definition(command.definition.model_dump(exclude_unset=True), now, grace)
    row = _on_its_grid(db, slots.schedule(db, command.schedule_id or ""))
    return Subject.of_row(row, grace, slots.runs(db, row["schedule_id"]) if row.get("max_runs") else 0)


def _on_its_grid(db: Connection, row: slots.Row) -> slots.Row:
    """An interval without a next slot counts from its latest one: from its creation only until its first change."""
    if row["schedule_type"] != "interval" or row["next_run"] is not None:
        return row
    return {**row, "anchor": slots.last(db, row["schedule_id"])}


def _downtime(subject: Subject, one: m.Span) -> Downtime:
    begin, end = subject.instant(one.start), subject.instant(one.end)
    if end <= begin:
        raise ValidationFailed.of("downtime", f"a span ends before it begins: {begin.isoformat()}")
    return begin, end


def _verdict(facts: tell.Facts, at: datetime | None) -> tuple[datetime | None, tuple[str, str]]:
    if facts.row is not None:
        return facts.row["nominal_utc"], tell.slot_of_row(facts, facts.row)
    rule = facts.subject.rule
    if at is None:
        coming = facts.schedule["next_run"]
        first = f"; the first comes {tell.shown(coming, rule)}" if coming is not None else ""
        return None, ("no_slot_yet", f"No slot of this schedule has come yet{first}.")
    nominal = tell.find(rule, at)
    if nominal is None:
        return None, tell.no_slot(rule, at)
    return nominal, tell.slot_without_row(facts, nominal)


def _row(schedule_id: str, nominal: datetime, execution_id: str, now: datetime) -> dict[str, Any]:
    return {
        "execution_id": execution_id,
        "schedule_id": schedule_id,
        "kind": "backfill",
        "nominal_utc": nominal,
        "status": "queued",
        "reason": None,
        "priority": "low",
        "attempt": 0,
        "queued_at": now,
        "not_before": now,
        "publish_at": now,
        "publishes": 0,
    }


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()
