"""One run of a review, step by step, each its own short transaction (rows H-10, H-13, H-14).

claim -> open a session -> review -> end both. A worker that dies in between leaves a row whose lease
runs out: the next tick ends the attempt and queues another, up to max_retries. A worker that was only
slow finds its attempt over and changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar
from uuid import uuid4

from reviews import retry
from reviews import run_session as say
from reviews.digest import digest
from reviews.store import runs
from reviews.store.runs import AttemptOver, Run
from sessionfleet.errors import FleetError, InvalidTransition, SessionExpired, SessionNotFound
from sessionfleet.messages.base import Write
from sessions import content, creation, emission, lifecycle
from tasks.runtime import Runtime
from tasks.unit_of_work import Work, again, first_error, transaction

T = TypeVar("T")

log = logging.getLogger(__name__)

BATCH = 50
LOST = "the worker that ran this review was lost"
NO_WAIT = timedelta(0)
MAX_ERROR = 2000

_ENDED = (InvalidTransition, SessionExpired, SessionNotFound)
"""Errors that say that somebody ended the run's session: that is a wish, not a fault to retry."""


def run(runtime: Runtime, execution_id: str) -> dict[str, Any]:
    """Run a queued execution; ``ran`` is false when it is not queued or its time has not come."""
    current = step(runtime, claim, execution_id)
    if current is None:
        return {"execution_id": execution_id, "ran": False, "status": None, "session_id": None}
    try:
        current, status = attempt(runtime, current)
    except AttemptOver:
        status = "lost"
    session_id = None if current.session_id is None else str(current.session_id)
    return {"execution_id": execution_id, "ran": True, "status": status, "session_id": session_id}


def attempt(runtime: Runtime, current: Run) -> tuple[Run, str]:
    """One attempt that was claimed, to its end; its status: success, failed, or queued to try again."""
    try:
        current = step(runtime, open_session, current)
        step(runtime, end_well, current, review(runtime, current))
    except AttemptOver:
        raise
    except Exception as error:
        log.warning("review failed", exc_info=True, extra={"execution_id": current.execution_id})
        text = str(error) if isinstance(error, FleetError) else f"{type(error).__name__}: {error}"[:MAX_ERROR]
        final = isinstance(error, _ENDED) or not current.may_retry
        wait = None if final else retry.wait(current.retry_delay_minutes, current.attempt, current.execution_id)
        step(runtime, end_badly, current, text, wait)
        return current, "failed" if final else "queued"
    return current, "success"


def claim(work: Work, execution_id: str) -> Run | None:
    """Begin an attempt if the execution waits for one."""
    return runs.claim(work.db, execution_id)


def open_session(work: Work, run: Run) -> Run:
    """The session of this attempt with its ``schedule.fired``, and the ledger's note of it."""
    run = runs.opened(work.db, run, uuid4())
    apply(work, run, creation.create, say.opening(run), creates=True)
    apply(work, run, emission.emit_event, say.event(run, "schedule.fired"))
    return run


def review(runtime: Runtime, run: Run) -> dict[str, Any]:
    """The built-in review, in one snapshot."""
    ahead = timedelta(seconds=max(runtime.policy.warn_before, default=300))
    with runtime.engine.connect().execution_options(isolation_level="REPEATABLE READ") as db:
        return digest(db, run.schedule_id, run.owner_id, ahead=ahead)


def end_well(work: Work, run: Run, report: dict[str, Any]) -> None:
    """Result, last run and end of the session together."""
    runs.succeed(work.db, run, report, report["accounts"])
    apply(work, run, content.update_context, say.report(run, report))
    apply(work, run, emission.emit_event, say.event(run, "schedule.completed", result=report))
    apply(work, run, lifecycle.complete, say.completion(run))


def end_badly(work: Work, run: Run, error: str, wait: timedelta | None) -> None:
    """The attempt is over: tried again after ``wait``, or failed for good with one ``schedule.failed``.
    The session may be gone or ended already."""
    runs.fail(work.db, run, error, wait)
    if run.session_id is None:
        return
    if wait is None:
        work.apply([run.session_id], emission.emit_event, say.event(run, "schedule.failed", error=error))
    work.apply([run.session_id], lifecycle.fail, say.failure(run, error))


def give_up_lost(runtime: Runtime) -> int:
    """End attempts whose lease ran out; they are tried again at once while they may. How many."""

    def end(work: Work) -> int:
        lost = runs.lost(work.db, BATCH)
        for run in lost:
            end_badly(work, run, LOST, NO_WAIT if run.may_retry else None)
        return len(lost)

    return step(runtime, end)


def apply(work: Work, run: Run, verb: Callable[..., Any], message: Write, *, creates: bool = False) -> None:
    """A session verb on the run's session in the open transaction; its error is raised."""
    error = first_error(work.apply([run.session_id], verb, message, creates=creates))
    if error is not None:
        raise error


def step(runtime: Runtime, function: Callable[..., T], *arguments: Any) -> T:
    """One transaction, run again after a lost race."""

    def once() -> T:
        with transaction(runtime, actor=say.ACTOR) as work:
            return function(work, *arguments)

    return again(runtime, once)
