"""Waiting operations of many callers in one transaction, each with its own answer, error, key and ``seq``.

The same loader, verbs and writer as for one (:mod:`tasks.unit_of_work`); only what surrounds them is shared: the
transaction, and the one round trip of cache, hint and answers. A message that fails alone changes nothing of the
others. Two on one session happen in the order in which they were waiting.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain
from typing import Any, NamedTuple, Protocol, cast

from sqlalchemy.exc import DBAPIError

from sessionfleet.errors import ValidationFailed
from sessionfleet.messages.base import Write
from sessions.change import Batch, Outcome
from sessions.wholes import names_of
from tasks.base import DECLARED, TOGETHER, Declaration, batch_of, held_up, lock_not_available, outcome_of
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


class Ran(NamedTuple):
    """What became of calls, by task id. Those that are in neither go Celery's way."""

    ended: dict[str, str | None]
    """Executed and answered: None, or the code of its error."""
    held: dict[str, frozenset[str]]
    """To be run again, in their order, before anything that shares one of these names with them: somebody holds a row
    that they are on."""


LOCK_SECONDS = 1
"""How long a list waits for rows that somebody holds, unless others wait for one already."""

_NONE: frozenset[str] = frozenset()


def collected_names() -> frozenset[str]:
    """Wire names of what runs together."""
    return frozenset(name for name, declaration in DECLARED.items() if declaration.kind in TOGETHER)


def run_together(
    runtime: Runtime,
    calls: Sequence[Call],
    behind: Collection[str] = (),
    *,
    wait: bool = True,
    overdue: Collection[str] = (),
) -> Ran:
    """Execute and answer calls of :func:`collected_names`.

    Neither executed nor answered are calls with invalid arguments that nobody waits for, which by themselves become
    dead letters; and, as ``held``, those on a row that somebody holds for longer than LOCK_SECONDS, or without
    ``wait`` at all, and those that share a name with them or with ``behind``, the names of earlier ones.
    ``overdue``: ids of tasks that have waited long enough, answered with Unavailable where they would be held again.
    Raises what the database raises: then nothing has happened, or what has is found again by its key.
    """
    jobs: list[_Job] = []
    answers: list[Answer] = []
    held: dict[str, frozenset[str]] = {}
    before = set(behind)
    for call in calls:
        try:
            job = _job(call)
        except ValidationFailed as error:
            if not call.ignore_result:
                answers.append(_answer(call, Outcome(error=error)))
            continue
        if before and not (names := _names(job.batch)).isdisjoint(before):
            held[call.task_id] = names | held.get(call.task_id, _NONE)
            before |= names
        else:
            jobs.append(job)
    found = _run(runtime, [job.batch for job in jobs], wait=wait) if jobs else []
    for job, outcomes in zip(jobs, found, strict=True):
        names = _NONE.union(*[outcome.held for outcome in outcomes])
        if names and job.call.task_id in overdue:
            answers.append(_answer(job.call, Outcome(error=held_up())))
        elif names:
            held[job.call.task_id] = names | held.get(job.call.task_id, _NONE)
        else:
            outcome = outcome_of(job.declaration, outcomes)
            kept = job.declaration.kind == "operation" and outcome.error is None and not outcome.replayed
            answers.append(_answer(job.call, outcome, stored=kept))
    documents = documents_of(list(chain.from_iterable(found)))
    if answers or documents:
        runtime.answer([answer for answer in answers if not answer.ignored], documents)
    # A producer may use an id twice: what was answered under one that is held says nothing of its namesake.
    ended = {one.task_id: None if one.error is None else one.error.code for one in answers if one.task_id not in held}
    return Ran(ended, held)


def _names(batch: Batch) -> frozenset[str]:
    return frozenset(name for operation in batch.operations for name in names_of(operation, {}))


def _job(call: Call) -> _Job:
    declaration = DECLARED[call.name]
    message = cast(Write, declaration.message.parse(call.arguments))
    return _Job(call, declaration, batch_of(declaration, call.task_id, message))


def _run(runtime: Runtime, batches: Sequence[Batch], *, wait: bool) -> list[list[Outcome]]:
    """Outcomes of all; ``held`` are those on a row that somebody holds for long: the others need not wait for it.

    Most rows that are held belong to another worker's list and are free in some milliseconds. So the others come
    first, and two workers do not wait for each other.
    """
    if wait and sum(len(batch.operations) for batch in batches) < 2:
        return _patient(runtime, batches)
    outcomes = commit_batches(runtime, batches, skip_held=True)
    left = [
        Batch([operation for operation, one in zip(batch.operations, each, strict=True) if one.held], batch.whole)
        for batch, each in zip(batches, outcomes, strict=True)
    ]
    waiting = [batch for batch in left if batch.operations]
    if not wait or not waiting:
        return outcomes
    found = chain.from_iterable(_patient(runtime, waiting))
    return [[next(found) if one.held else one for one in each] for each in outcomes]


def _patient(runtime: Runtime, batches: Sequence[Batch]) -> list[list[Outcome]]:
    try:
        return commit_batches(runtime, batches, LOCK_SECONDS)
    except DBAPIError as error:
        if not lock_not_available(error):
            raise
    return commit_batches(runtime, batches, skip_held=True)


def _answer(call: Call, outcome: Outcome, *, stored: bool = False) -> Answer:
    return Answer(call.task_id, outcome.answer, outcome.error, call.reply_to, call.ignore_result, stored)
