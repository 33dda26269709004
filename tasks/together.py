"""Waiting operations of many callers in one transaction, each with its own answer, error, key and ``seq``.

The same loader, verbs and writer as for one (:mod:`tasks.unit_of_work`); only what surrounds them is shared: the
transaction, and the one round trip of cache, hint and answers. One that fails alone changes nothing of
the others. Two on one session happen in the order in which they were waiting.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

from sqlalchemy.exc import DBAPIError

from sessionfleet.errors import FleetError, ValidationFailed
from sessionfleet.messages.base import Write
from sessions.change import Operation, Outcome
from tasks.base import DECLARED, operation_of
from tasks.runtime import Answer, Runtime
from tasks.unit_of_work import commit_operations, documents_of, publish, run_operations


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


COLLECTED = "operation"
"""The kind of declaration that runs together; all else is a transaction or a read of its own."""


LOCK_SECONDS = 3
"""How long several wait for a row that somebody holds before each of them is tried alone, for ALONE_SECONDS."""

ALONE_SECONDS = 1
_LOCK_NOT_AVAILABLE = "55P03"


def collected_names() -> frozenset[str]:
    """Wire names of the operations that run together."""
    return frozenset(name for name, declaration in DECLARED.items() if declaration.kind == COLLECTED)


def run_together(runtime: Runtime, calls: Sequence[Call]) -> dict[str, bool]:
    """Execute and answer calls of :func:`collected_names`: task id -> whether it succeeded.

    Not among them, and neither executed nor answered: calls with invalid arguments that nobody waits for, which by
    themselves become dead letters; and calls on a session whose row somebody holds, when there are others. Raises
    what the database raises: then nothing has happened, or what has is found again by its key.
    """
    ready: list[tuple[Call, Operation]] = []
    answers: list[Answer] = []
    for call in calls:
        try:
            ready.append((call, _operation(call)))
        except ValidationFailed as error:
            if not call.ignore_result:
                answers.append(_answer(call, Outcome(error=error)))
    outcomes = _run(runtime, [operation for _, operation in ready])
    answers += [
        _answer(call, outcome) for (call, _), outcome in zip(ready, outcomes, strict=True) if outcome is not None
    ]
    ended = [outcome for outcome in outcomes if outcome is not None]
    documents = documents_of(ended)
    if any(document["deleted_at"] is not None for document in documents):
        publish(runtime, ended)
        documents = []
    runtime.answer([answer for answer in answers if not answer.ignored], documents)
    return {answer.task_id: answer.error is None for answer in answers}


def _run(runtime: Runtime, operations: Sequence[Operation]) -> list[Outcome | None]:
    """Outcomes of all; None for those on a row that somebody holds: their neighbours need not wait with them."""
    if len(operations) < 2:
        return list(commit_operations(runtime, operations))
    try:
        return list(commit_operations(runtime, operations, lock_seconds=LOCK_SECONDS))
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", None) != _LOCK_NOT_AVAILABLE:
            raise
    held: set[str | None] = set()
    return [_alone(runtime, operation, held) for operation in operations]


def _alone(runtime: Runtime, operation: Operation, held: set[str | None]) -> Outcome | None:
    if operation.session_key in held:
        return None
    try:
        [outcome] = run_operations(runtime, [operation], lock_seconds=ALONE_SECONDS)
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", None) != _LOCK_NOT_AVAILABLE:
            raise
        held.add(operation.session_key)
        return None
    return outcome


def _operation(call: Call) -> Operation:
    declaration = DECLARED[call.name]
    return operation_of(declaration, call.task_id, cast(Write, declaration.message.parse(call.arguments)))


def _answer(call: Call, outcome: Outcome) -> Answer:
    error: FleetError | None = outcome.error
    stored = error is None and not outcome.replayed
    return Answer(call.task_id, outcome.answer, error, call.reply_to, call.ignore_result, stored)
