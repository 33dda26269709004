"""Tasks for handlers of other services: a run goes on, a run has ended (rows H-10, H-14)."""

from __future__ import annotations

import json
from typing import Any

from reviews.store import runs
from sessionfleet.errors import FleetError, PayloadTooLarge
from sessionfleet.messages import schedule_handlers as m
from tasks import schedule_runs
from tasks.base import command
from tasks.unit_of_work import Work

MAX_RESULT = 262_144
"""Bytes of a result as JSON."""


@command(m.KeepRun)
def keep_run(work: Work, command: m.KeepRun) -> dict[str, Any]:
    """Renew the lease of an attempt that is not over."""
    run = runs.held(work.db, command.execution_id, command.attempt)
    if run is not None:
        runs.renew(work.db, run)
    return {**_which(command), "go_on": run is not None and run.stop is None, "changed": False}


@command(m.EndRun)
def end_run(work: Work, command: m.EndRun) -> dict[str, Any]:
    """End an attempt that is not over, well or badly."""
    result = command.result or {}
    size = len(json.dumps(result, separators=(",", ":")).encode())
    if size > MAX_RESULT:
        raise PayloadTooLarge(field="result", size=size, limit=MAX_RESULT)
    run = runs.held(work.db, command.execution_id, command.attempt)
    if run is None:
        return {**_which(command), "accepted": False, "status": None, "changed": False}
    if command.error is not None:
        status = schedule_runs.give_up(work, run, command.error[: schedule_runs.MAX_ERROR], False)
    else:
        status = _end_well(work, run, result, command.accounts_processed)
    return {**_which(command), "accepted": True, "status": status, "changed": True}


def _end_well(work: Work, run: runs.Run, result: dict[str, Any], accounts_processed: int | None) -> str:
    try:
        with work.db.begin_nested():
            schedule_runs.end_well(work, run, result, accounts_processed)
    except FleetError as error:  # somebody has ended the session
        return schedule_runs.give_up(work, run, str(error), True)
    return "success"


def _which(command: m.KeepRun | m.EndRun) -> dict[str, Any]:
    return {"execution_id": command.execution_id, "attempt": command.attempt}
