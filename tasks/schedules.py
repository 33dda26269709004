"""Tasks on scheduled reviews."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from reviews import assignments, commands, queries
from reviews.store.executions import Message
from sessionfleet.messages import schedule as m
from sessionfleet.messages.schedule_accounts import AssignAccounts, ListAssignments
from tasks import schedule_dispatch, schedule_runs
from tasks.base import command, duty, query
from tasks.runtime import Runtime
from tasks.unit_of_work import Work


def grace(runtime: Runtime) -> timedelta:
    """How late a slot may still run (H-07)."""
    return timedelta(seconds=runtime.misfire_grace)


@command(m.CreateSchedule)
def create(work: Work, command: m.CreateSchedule) -> dict[str, Any]:
    """Create a schedule (H-01)."""
    return commands.create(work.db, command, work.now)


@command(m.UpdateSchedule)
def update(work: Work, command: m.UpdateSchedule) -> dict[str, Any]:
    """Change a schedule (H-12)."""
    return commands.update(work.db, command, work.now, grace(work.runtime))


@command(m.PauseSchedule)
def pause(work: Work, command: m.PauseSchedule) -> dict[str, Any]:
    """Stop firing (H-12)."""
    return commands.pause(work.db, command, work.now, grace(work.runtime))


@command(m.ResumeSchedule)
def resume(work: Work, command: m.ResumeSchedule) -> dict[str, Any]:
    """Fire again (H-12)."""
    return commands.resume(work.db, command, work.now, grace(work.runtime))


@command(m.DeleteSchedule)
def delete(work: Work, command: m.DeleteSchedule) -> dict[str, Any]:
    """Delete a schedule (H-12)."""
    return commands.delete(work.db, command, work.now, grace(work.runtime))


@command(m.TriggerSchedule)
def trigger(work: Work, command: m.TriggerSchedule) -> dict[str, Any]:
    """Run now (H-11). A message that cannot be sent is sent by the next dispatch."""
    execution = commands.trigger(work.db, command, work.now)
    if execution["status"] == "queued":
        message = Message(execution["execution_id"], "high", None)
        work.after_commit(lambda: schedule_runs.try_to_send(work.runtime, [message]))
    return execution


@query(m.GetSchedule)
def get(db: Connection, command: m.GetSchedule, _: Runtime) -> dict[str, Any]:
    """One schedule (H-12)."""
    return queries.get(db, command.schedule_id)


@query(m.ListSchedules)
def list_(db: Connection, command: m.ListSchedules, _: Runtime) -> dict[str, Any]:
    """Schedules by owner (H-12)."""
    return queries.page(db, command)


@query(m.ScheduleHistory)
def history(db: Connection, command: m.ScheduleHistory, _: Runtime) -> dict[str, Any]:
    """The ledger of a schedule (H-13)."""
    return queries.history(db, command)


@command(AssignAccounts)
def assign(work: Work, command: AssignAccounts) -> dict[str, Any]:
    """Set and remove accounts of an owner (H-15)."""
    return assignments.assign(work.db, command, work.now)


@query(ListAssignments)
def assigned(db: Connection, command: ListAssignments, _: Runtime) -> dict[str, Any]:
    """The accounts of an owner (H-15)."""
    return assignments.page(db, command)


@duty(m.DispatchDue)
def dispatch_due(runtime: Runtime, _: m.DispatchDue) -> dict[str, int]:
    """Settle what is due and send the runs (H-06)."""
    return schedule_dispatch.dispatch(runtime, grace(runtime))


@duty(m.RunReview)
def run_review(runtime: Runtime, command: m.RunReview) -> dict[str, Any]:
    """Run one execution (H-14)."""
    return schedule_runs.run(runtime, command.execution_id)
