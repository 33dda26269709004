"""The writes on schedules (rows H-01, H-11, H-12). The caller's transaction holds; each locks its schedule.

A change takes effect from its commit on: slots that are due by then are settled first, by what the
schedule said so far.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection

from reviews import documents, recurrence, zones
from reviews.dispatch import settle_one
from reviews.rule import COLUMNS, DEFAULTS, Rule
from reviews.rule_check import check
from reviews.rule_types import FIELDS
from reviews.store import executions, schedules
from sessionfleet.errors import PayloadTooLarge, VersionConflict
from sessionfleet.messages import schedule as m
from sessionfleet.messages.schedule_examples import invalid_schedule

Document = dict[str, Any]

MAX_BYTES = 65536
"""Of metadata and of account_filter, as JSON."""

_OWN = (
    *("account_filter", "priority", "enabled", "max_retries", "retry_delay_minutes", "metadata"),
    *("coalesce", "overlap", "max_instances", "max_runs", "pause_after_failures"),
    *("handler", "handler_queue", "handler_timeout_seconds"),
)

FLEET_QUEUES = frozenset({"sessions", "maintenance", "reviews"})
"""Queues whose workers know no handler of another service."""


def create(db: Connection, command: m.CreateSchedule, now: datetime) -> Document:
    """A new schedule; raises InvalidSchedule or PayloadTooLarge with nothing stored."""
    given = command.model_dump()
    rule = Rule.of(given, anchor=now)
    check(rule, now)
    _check_handler(given)
    _check_sizes(given)
    row = schedules.add(
        db,
        {
            **{name: given[name] for name in (*COLUMNS, *_OWN, "owner_id")},
            "schedule_id": f"schedule_{uuid4().hex[:12]}",
            "next_run": recurrence.first(rule, now),
            "tzdata_version": zones.TZDATA_VERSION,
            "run_count": 0,
            "failures_in_row": 0,
            "version": 1,
            "created_at": now,
            "updated_at": now,
        },
    )
    return documents.schedule(row)


def update(db: Connection, command: m.UpdateSchedule, now: datetime, grace: timedelta) -> Document:
    """Change what was given and differs. A recurrence that changes is checked as a new one; with other
    slots it counts from ``now``."""
    row = _locked(db, command)
    given = command.model_dump(include=command.model_fields_set & {*COLUMNS, *_OWN})
    _check_sizes(given)
    given = _one_period(_other_type(given, row))
    changes = {name: value for name, value in given.items() if row[name] != value}
    _check_handler({**row, **changes})
    if not changes:
        return {**documents.schedule(row), "changed": False, "updates": []}
    values = dict(changes)
    if changes.keys() & set(COLUMNS):
        new = Rule.of({**row, **changes})
        check(new, now)
        next_run = settle_one(db, row, now, grace)
        values["next_run"] = recurrence.moved(Rule.of(row), new, next_run, now)
        values["tzdata_version"] = zones.TZDATA_VERSION
    else:
        settle_one(db, row, now, grace)
    if values.get("enabled"):
        values |= {"pause_note": None, "failures_in_row": 0}
    return _changed(db, command, now, values, sorted(changes))


def pause(db: Connection, command: m.PauseSchedule, now: datetime, grace: timedelta) -> Document:
    """Stop firing; a paused schedule stays as it is."""
    return _switch(db, command, now, grace, enabled=False, note=command.note)


def resume(db: Connection, command: m.ResumeSchedule, now: datetime, grace: timedelta) -> Document:
    """Fire again; the slots of the pause are on the ledger as paused."""
    return _switch(db, command, now, grace, enabled=True, note=None)


def delete(db: Connection, command: m.DeleteSchedule, now: datetime, grace: timedelta) -> Document:
    """End a schedule. Its row stays, unseen, for its history; a run under way ends by itself."""
    row = _locked(db, command)
    settle_one(db, row, now, grace)
    executions.drop_queued(db, command.schedule_id)
    _changed(db, command, now, {"next_run": None, "deleted_at": now}, ["deleted_at"])
    return {"deleted": True, "schedule_id": command.schedule_id}


def trigger(db: Connection, command: m.TriggerSchedule, now: datetime) -> Document:
    """An execution for now, of high priority, that the caller sends after the commit; skipped when
    overlap was not to be overridden and another run waits or is under way."""
    row = _locked(db, command)
    schedule_id = row["schedule_id"]
    skip = not command.override_overlap and bool(executions.active(db, [schedule_id]))
    added = executions.add_one(
        db,
        {
            "execution_id": f"ondemand_{uuid4().hex[:8]}",
            "schedule_id": schedule_id,
            "kind": "on_demand",
            "nominal_utc": now,
            "status": "skipped" if skip else "queued",
            "reason": "overlap" if skip else None,
            "priority": "high",
            "attempt": 0,
            "queued_at": now,
            "not_before": None if skip else now,
            "publish_at": None if skip else now + executions.RESEND,
            "publishes": 0,
        },
    )
    return documents.execution(added)


def _switch(
    db: Connection, command: m.ScheduleWrite, now: datetime, grace: timedelta, *, enabled: bool, note: str | None
) -> Document:
    row = _locked(db, command)
    if row["enabled"] == enabled:
        return {**documents.schedule(row), "changed": False, "updates": []}
    settle_one(db, row, now, grace)
    fresh = {"failures_in_row": 0} if enabled else {}
    return _changed(db, command, now, {"enabled": enabled, "pause_note": note, **fresh}, ["enabled"])


def _locked(db: Connection, command: m.ScheduleWrite) -> schedules.Row:
    row = schedules.lock(db, command.schedule_id)
    expected, current = command.expected_version, row["version"]
    if expected is not None and expected != current:
        raise VersionConflict(
            message=f"Schedule {command.schedule_id} is at version {current}, not {expected}.",
            schedule_id=command.schedule_id,
            expected=expected,
            current=current,
        )
    return row


def _changed(
    db: Connection, command: m.ScheduleWrite, now: datetime, values: Mapping[str, Any], updates: list[str]
) -> Document:
    version = schedules.lock(db, command.schedule_id)["version"] + 1
    row = schedules.change(db, command.schedule_id, {**values, "version": version, "updated_at": now})
    return {**documents.schedule(row), "changed": True, "updates": updates}


def _other_type(given: dict[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """A new type takes nothing over that only the old one has a use for."""
    if given.get("schedule_type", row["schedule_type"]) == row["schedule_type"]:
        return given
    gone = set(FIELDS[row["schedule_type"]]) - set(FIELDS[given["schedule_type"]])
    return {**{name: DEFAULTS[name] for name in gone}, **given}


def _one_period(given: dict[str, Any]) -> dict[str, Any]:
    """A new period in the one unit takes the place of an old one in the other."""
    units = ("interval_minutes", "interval_seconds")
    for unit, other in (units, units[::-1]):
        if given.get(unit) is not None and other not in given:
            return {**given, other: None}
    return given


def _check_handler(given: Mapping[str, Any]) -> None:
    """A handler of another service has a queue there, the built-in one has none."""
    kind, queue = given["schedule_type"], given["handler_queue"]
    if given["handler"] == m.BUILT_IN:
        if queue is not None:
            raise invalid_schedule("handler_queue", f"has no meaning when handler is {m.BUILT_IN}", kind)
    elif queue is None:
        raise invalid_schedule("handler_queue", "is required with a handler of another service", kind)
    elif queue in FLEET_QUEUES:
        raise invalid_schedule("handler_queue", f"{queue} is a queue of the fleet's own tasks", kind)


def _check_sizes(given: Mapping[str, Any]) -> None:
    for field in ("metadata", "account_filter"):
        size = len(json.dumps(given.get(field), separators=(",", ":")).encode())
        if size > MAX_BYTES:
            raise PayloadTooLarge(field=field, size=size, limit=MAX_BYTES)
