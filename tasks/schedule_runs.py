"""One run of a review, step by step, each its own short transaction (rows H-10, H-13, H-14).

claim -> open a session -> review -> end both. A worker that dies in between leaves a row whose lease
runs out: the next tick ends the attempt and queues another, up to max_retries. A worker that was only
slow finds its attempt over and changes nothing. A handler of another service takes the place of the
review; it ends the run by ``schedule.end_run``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar
from uuid import uuid4

from reviews import retry
from reviews import run_session as say
from reviews.accounts import Account, chosen
from reviews.digest import digest
from reviews.store import accounts, admission, runs
from reviews.store.executions import Message
from reviews.store.runs import AttemptOver, Run
from sessionfleet.errors import FleetError, InvalidTransition, SessionExpired, SessionNotFound
from sessionfleet.messages.schedule import BUILT_IN
from sessions import content, creation, emission, lifecycle
from tasks.runtime import Outgoing, Runtime
from tasks.unit_of_work import Step, Work, again, transaction

T = TypeVar("T")

log = logging.getLogger(__name__)

BATCH = 50
EARLY = 2.0
"""Seconds a message may come before its run is due: clocks differ, and who takes it waits so long."""

HANDED_ON = 2.0
"""Seconds until a run that was handed on is sent again by the outbox."""

LOST = "the worker that ran this review was lost"
STOPPED = "ended for a later slot of the schedule"
NO_WAIT = timedelta(0)
MAX_ERROR = 2000

_ENDED = (InvalidTransition, SessionExpired, SessionNotFound)
"""Errors that say that somebody ended the run's session: that is a wish, not a fault to retry."""


def run(runtime: Runtime, execution_id: str) -> dict[str, Any]:
    """Run that execution, or the one of its owner that comes first; ``ran`` is false when none may start."""
    current = step(runtime, claim, execution_id)
    if isinstance(current, float):
        time.sleep(current)
        current = step(runtime, claim, execution_id)
    if current is None or isinstance(current, float):
        return {"execution_id": execution_id, "ran": False, "status": None, "session_id": None}
    try:
        current, status = attempt(runtime, current)
    except AttemptOver:
        status = "lost"
    session_id = None if current.session_id is None else str(current.session_id)
    return {"execution_id": current.execution_id, "ran": True, "status": status, "session_id": session_id}


def attempt(runtime: Runtime, current: Run) -> tuple[Run, str]:
    """One attempt that was claimed, to its end or into the hands of its handler; its status: success,
    failed, queued to try again, or running."""
    try:
        current, over = step(runtime, open_session, current)
        if current.handler != BUILT_IN:
            hand_over(runtime, current, over)
            return current, "running"
        report = review(runtime, current, over)
        step(runtime, end_well, current, report, report["accounts"])
    except AttemptOver:
        raise
    except Exception as error:
        log.warning("review failed", exc_info=True, extra={"execution_id": current.execution_id})
        text = str(error) if isinstance(error, FleetError) else f"{type(error).__name__}: {error}"[:MAX_ERROR]
        return current, step(runtime, give_up, current, text, isinstance(error, _ENDED))
    return current, "success"


def claim(work: Work, execution_id: str) -> Run | float | None:
    """Begin an attempt if one may start; the seconds to wait when the message came a little early."""
    seen = admission.look(work.db, execution_id)
    if seen is None:
        return None
    if seen.queued and 0 < seen.wait <= EARLY:
        return seen.wait
    run = runs.claim(work.db, seen.owner_id, execution_id, work.runtime.owner_parallelism)
    if run is not None and run.overlap == "allow_all":
        hand_on(work, run)  # others of the schedule may start beside it
    return run


def open_session(work: Work, run: Run) -> tuple[Run, list[Account]]:
    """The session of this attempt with its ``schedule.fired``, the ledger's note of it, and the accounts
    the run is over."""
    over = chosen(accounts.of_owner(work.db, run.owner_id), run.account_filter)
    run = runs.opened(work.db, run, uuid4())
    fired = say.event(run, "schedule.fired")
    steps: list[Step] = [(creation.create, say.opening(run, over)), (emission.emit_event, fired)]
    work.apply_in_order(run.session_id, steps, creates=True)
    return run, over


def review(runtime: Runtime, run: Run, over: list[Account]) -> dict[str, Any]:
    """The built-in review, in one snapshot."""
    ahead = timedelta(seconds=max(runtime.policy.warn_before, default=300))
    with runtime.engine.connect().execution_options(isolation_level="REPEATABLE READ") as db:
        return digest(db, run.schedule_id, run.owner_id, over, only_these=run.account_filter is not None, ahead=ahead)


def hand_over(runtime: Runtime, run: Run, over: list[Account]) -> None:
    """The message to the handler. One that is lost costs the run's lease, then the run is tried again."""
    runtime.send(run.handler, say.errand(run, over), run.priority, queue=run.handler_queue)


def end_well(work: Work, run: Run, report: dict[str, Any], accounts_processed: int | None) -> None:
    """Result, last run and end of the session together; the owner's next run is sent."""
    runs.succeed(work.db, run, report, accounts_processed)
    steps: list[Step] = [
        (content.update_context, say.report(run, report)),
        (emission.emit_event, say.event(run, "schedule.completed", result=report)),
        (lifecycle.complete, say.completion(run)),
    ]
    work.apply_in_order(run.session_id, steps, creates=False)
    hand_on(work, run)


def give_up(work: Work, run: Run, error: str, final: bool) -> str:
    """End an attempt that failed; the status of its run: queued to try again while it may, or failed."""
    held = runs.held(work.db, run.execution_id, run.attempt)
    if held is None:
        raise AttemptOver(run.execution_id)
    final = final or not held.may_retry
    wait = None if final else retry.wait(held.retry_delay_minutes, held.attempt, held.execution_id)
    end_badly(work, held, error, wait)
    return "failed" if final else "queued"


def end_badly(work: Work, run: Run, error: str, wait: timedelta | None) -> None:
    """The attempt is over: tried again after ``wait``, or failed for good with one ``schedule.failed``, or
    ``schedule.stopped`` when a later slot took its place. The session may be gone or ended already."""
    runs.fail(work.db, run, error, wait)
    if run.session_id is not None:
        if wait is None:
            name = "schedule.failed" if run.stop is None else "schedule.stopped"
            work.apply([run.session_id], emission.emit_event, say.event(run, name, error=error))
        if run.stop is None:
            work.apply([run.session_id], lifecycle.fail, say.failure(run, error))
        else:
            work.apply([run.session_id], lifecycle.terminate, say.stopping(run, error))
    hand_on(work, run)


def hand_on(work: Work, run: Run) -> None:
    """Send the runs that can start now that this one has ended, or begun."""
    waiting = admission.next_ones(work.db, run.owner_id, work.runtime.owner_parallelism, HANDED_ON)
    work.after_commit(lambda: try_to_send(work.runtime, waiting))


def try_to_send(runtime: Runtime, waiting: list[Message]) -> None:
    """The messages of runs that can start. Never raises: a later tick sends them again."""
    try:
        send(runtime, waiting)
    except Exception:
        log.warning("messages not sent", exc_info=True, extra={"execution_id": waiting[0].execution_id})


def send(runtime: Runtime, messages: Sequence[Message]) -> None:
    """Messages that start one run each."""
    runtime.send.many(
        [
            Outgoing("schedule.run_review", {"execution_id": one.execution_id}, one.priority, one.start)
            for one in messages
        ]
    )


def give_up_lost(runtime: Runtime) -> int:
    """End attempts whose lease ran out; they are tried again at once while they may. How many."""

    def end(work: Work, execution_id: str) -> int:
        run = runs.held(work.db, execution_id)
        if run is None or not runs.is_lost(work.db, run):
            return 0
        end_badly(work, run, LOST, NO_WAIT if run.may_retry else None)
        return 1

    with runtime.engine.connect() as db:
        found = runs.lost(db, BATCH)
    return sum(step(runtime, end, one) for one in found)


def stop_others(runtime: Runtime) -> int:
    """Make way for slots whose overlap policy ends the run before; how many runs end or are told to."""

    def end(work: Work, execution_id: str) -> None:
        run = runs.held(work.db, execution_id)
        if run is not None and run.stop == "terminate":
            end_badly(work, run, STOPPED, None)

    stopped: int = step(runtime, lambda work: admission.stop_others(work.db))
    with runtime.engine.connect() as db:
        found = runs.to_terminate(db, BATCH)
    for one in found:
        step(runtime, end, one)
    return stopped


def step(runtime: Runtime, function: Callable[..., T], *arguments: Any) -> T:
    """One transaction, run again after a lost race."""

    def once() -> T:
        with transaction(runtime, actor=say.ACTOR) as work:
            return function(work, *arguments)

    return again(runtime, once)
