"""Waiting operations of many callers in one transaction, each with its own answer, error, key and ``seq``.

The same loader, verbs and writer as for one (:mod:`tasks.unit_of_work`); only what surrounds them is shared: the
transaction, and the one round trip of cache, hint and answers. A message that fails alone changes nothing of the
others. Two on one session happen in the order in which they were waiting.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple, Protocol, cast

from sqlalchemy.exc import DBAPIError

from sessionfleet.errors import ValidationFailed
from sessionfleet.messages.base import Write
from sessions.change import Batch, Outcome
from tasks.base import DECLARED, TOGETHER, Declaration, batch_of, outcome_of
from tasks.runtime import Answer, Runtime
from tasks.unit_of_work import commit_batches, documents_of


class Call(Protocol):
    """A waiting message, as :class:`broker.collecting.Call` has it."""

    @property
    def name(self) -> str: ...
    @property
    def task_id(self) -> str: ...
    @property
    def arguments(self) -> dict[str, Any]: ...
    @property
    def reply_to(self) -> str | None: ...
    @property
    def ignore_result(self) -> bool: ...


class _Job(NamedTuple):
    """A call that was understood."""

    call: Call
    declaration: Declaration
    batch: Batch


LOCK_SECONDS = 1
"""How long a list waits for rows that somebody holds; those on rows that are still held then go Celery's way."""

_LOCK_NOT_AVAILABLE = "55P03"


def collected_names() -> frozenset[str]:
    """Wire names of what runs together."""
    return frozenset(name for name, declaration in DECLARED.items() if declaration.kind in TOGETHER)


def run_together(runtime: Runtime, calls: Sequence[Call]) -> dict[str, str | None]:
    """Execute and answer calls of :func:`collected_names`: task id -> None, or the code of its error.

    Not among them, and neither executed nor answered: calls with invalid arguments that nobody waits for, which by
    themselves become dead letters; and calls on a session whose row somebody holds for longer than
    LOCK_SECONDS, when there are others. Raises what the database raises: then nothing has happened, or what has is
    found again by its key.
    """
    jobs: list[_Job] = []
    answers: list[Answer] = []
    for call in calls:
        try:
            jobs.append(_job(call))
        except ValidationFailed as error:
            if not call.ignore_result:
                answers.append(_answer(call, Outcome(error=error)))
    found = _run(runtime, [job.batch for job in jobs])
    left: set[str] = set()
    for job, outcomes in zip(jobs, found, strict=True):
        if any(outcome.held for outcome in outcomes):
            left.add(job.call.task_id)
        else:
            outcome = outcome_of(job.declaration, outcomes)
            kept = job.declaration.kind == "operation" and outcome.error is None and not outcome.replayed
            answers.append(_answer(job.call, outcome, stored=kept))
    documents = documents_of(list(chain.from_iterable(found)))
    runtime.answer([answer for answer in answers if not answer.ignored], documents)
    # A producer may use an id twice: one that was left out goes Celery's way with its namesakes, which replay.
    return {one.task_id: None if one.error is None else one.error.code for one in answers if one.task_id not in left}


def _job(call: Call) -> _Job:
    declaration = DECLARED[call.name]
    message = cast(Write, declaration.message.parse(call.arguments))
    return _Job(call, declaration, batch_of(declaration, call.task_id, message))


def _run(runtime: Runtime, batches: Sequence[Batch]) -> list[list[Outcome]]:
    """Outcomes of all; ``held`` are those on a row that somebody holds for long: the others need not wait for it.

    Most rows that are held belong to another worker's list and are free in some milliseconds. So the others come
    first, and two workers do not wait for each other.
    """
    if sum(len(batch.operations) for batch in batches) < 2:
        return commit_batches(runtime, batches)
    outcomes = commit_batches(runtime, batches, skip_held=True)
    left = [
        Batch([operation for operation, one in zip(batch.operations, each, strict=True) if one.held], batch.whole)
        for batch, each in zip(batches, outcomes, strict=True)
    ]
    if waiting := [batch for batch in left if batch.operations]:
        found = chain.from_iterable(_held(runtime, waiting))
        return [[next(found) if one.held else one for one in each] for each in outcomes]
    return outcomes


def _held(runtime: Runtime, batches: Sequence[Batch]) -> list[list[Outcome]]:
    try:
        return commit_batches(runtime, batches, LOCK_SECONDS)
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", None) != _LOCK_NOT_AVAILABLE:
            raise
    return commit_batches(runtime, batches, skip_held=True)


def _answer(call: Call, outcome: Outcome, *, stored: bool = False) -> Answer:
    return Answer(call.task_id, outcome.answer, outcome.error, call.reply_to, call.ignore_result, stored)
