"""The session of a run, as messages to the session verbs (row H-14): opened, told, ended.

Its metadata names the run: schedule_id, execution_id, kind, nominal_utc, attempt. Its accounts are those the
run is over, highest risk first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from reviews.accounts import Account
from reviews.store.runs import Run
from sessionfleet import messages as m

ACTOR = "fleet"


def opening(run: Run, over: Sequence[Account]) -> m.Create:
    """A session of type scheduled, or on_demand when the run was triggered, active from the start."""
    return m.Create(
        id=run.session_id,
        status="active",
        session_type="on_demand" if run.kind == "on_demand" else "scheduled",
        owner_id=run.owner_id,
        account_ids=[account.account_id for account in over],
        priority=run.priority,
        metadata=facts(run),
        actor=ACTOR,
    )


def errand(run: Run, over: Sequence[Account]) -> dict[str, Any]:
    """What a handler of another service is sent."""
    return {
        **facts(run),
        "session_id": _id(run),
        "owner_id": run.owner_id,
        "accounts": [account.shown() for account in over],
        "metadata": run.about,
        "timeout_seconds": run.handler_timeout_seconds,
    }


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


def stopping(run: Run, reason: str) -> m.Terminate:
    """The end of an attempt that makes way for a later slot."""
    return m.Terminate(session_id=_id(run), reason=reason, actor=ACTOR)


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
