"""Tasks that look at schedules: what they will do, would do and did, and what is made up for (rows H-04, H-18)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from reviews import views
from sessionfleet.messages import schedule_views as m
from tasks.base import command, query
from tasks.runtime import Runtime
from tasks.unit_of_work import Work


@query(m.NextRun)
def next_run(db: Connection, command: m.NextRun, runtime: Runtime) -> dict[str, Any]:
    """The next slots (H-04)."""
    return views.coming(db, command, runtime.misfire_grace)


@query(m.PreviewSchedule)
def preview(db: Connection, command: m.PreviewSchedule, runtime: Runtime) -> dict[str, Any]:
    """The slots of a range (H-18)."""
    return views.previewed(db, command, runtime.misfire_grace)


@query(m.SimulateSchedule)
def simulate(db: Connection, command: m.SimulateSchedule, runtime: Runtime) -> dict[str, Any]:
    """A range as the ledger would see it (H-18)."""
    return views.simulated(db, command, runtime.misfire_grace)


@query(m.ExplainSchedule)
def explain(db: Connection, command: m.ExplainSchedule, runtime: Runtime) -> dict[str, Any]:
    """Why a slot ran or did not (H-18)."""
    return views.explained(db, command, runtime.misfire_grace)


@command(m.BackfillSchedule)
def backfill(work: Work, command: m.BackfillSchedule) -> dict[str, Any]:
    """Run slots of a past range (H-18)."""
    return views.backfilled(work.db, command, work.now, work.runtime.misfire_grace)
