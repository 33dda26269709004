"""The session of a run, as messages to the session verbs (row H-14): opened, told, ended.

Its metadata names the run: schedule_id, execution_id, kind, nominal_utc, attempt.
"""

from __future__ import annotations

from typing import Any

from reviews.store.runs import Run
from sessionfleet import messages as m

ACTOR = "fleet"


def opening(run: Run) -> m.Create:
    """A session of type scheduled, or on_demand when the run was triggered, active from the start."""
    return m.Create(
        id=run.session_id,
        status="active",
        session_type="on_demand" if run.kind == "on_demand" else "scheduled",
        owner_id=run.owner_id,
        priority=run.priority,
        metadata=facts(run),
        actor=ACTOR,
    )


def event(run: Run, name: str, **payload: Any) -> m.OwnEvent:
    """An event about the run in its session."""
    return m.OwnEvent(session_id=_id(run), type=name, payload={**facts(run), **payload}, actor=ACTOR)


def report(run: Run, found: dict[str, Any]) -> m.UpdateContext:
    """The report, with its nulls, as ``review`` of the session's context."""
    return m.UpdateContext(session_id=_id(run), mode="shallow", context={"review": found}, actor=ACTOR)


def completion(run: Run) -> m.Complete:
    """The end of a run that went well."""
    return m.Complete(session_id=_id(run), reason="review done", actor=ACTOR)


def failure(run: Run, error: str) -> m.Fail:
    """The end of an attempt that failed."""
    return m.Fail(session_id=_id(run), error=error, reason=f"attempt {run.attempt} failed", actor=ACTOR)


def facts(run: Run) -> dict[str, Any]:
    """Which run this is."""
    return {
        "schedule_id": run.schedule_id,
        "execution_id": run.execution_id,
        "kind": run.kind,
        "nominal_utc": run.nominal_utc.isoformat(),
        "attempt": run.attempt,
    }


def _id(run: Run) -> str:
    return str(run.session_id)
