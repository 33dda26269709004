"""Waiting operations of many callers in one transaction, each with its own answer, error, key and ``seq``.

The same loader, verbs and writer as for one (:mod:`tasks.unit_of_work`); only what surrounds them is shared: the
transaction, the cache's pipeline, the hint and the pipeline of the answers. One that fails alone changes nothing of
the others. Two on one session happen in the order in which they were waiting.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

from sessionfleet.errors import FleetError, ValidationFailed
from sessionfleet.messages.base import Write
from sessions.change import Operation, Outcome
from tasks.base import DECLARED, operation_of
from tasks.runtime import Answer, Runtime
from tasks.unit_of_work import run_operations


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


def collected_names() -> frozenset[str]:
    """Wire names of the operations that run together."""
    return frozenset(name for name, declaration in DECLARED.items() if declaration.kind == COLLECTED)


def run_together(runtime: Runtime, calls: Sequence[Call]) -> dict[str, bool]:
    """Execute and answer calls of :func:`collected_names`: task id -> whether it succeeded.

    Not among them, and neither executed nor answered: calls with invalid arguments that nobody waits for; by
    themselves they become dead letters. Raises what the database raises: then nothing has happened.
    """
    ready: list[tuple[Call, Operation]] = []
    answers: list[Answer] = []
    for call in calls:
        try:
            ready.append((call, _operation(call)))
        except ValidationFailed as error:
            if not call.ignore_result:
                answers.append(_answer(call, Outcome(error=error)))
    outcomes = run_operations(runtime, [operation for _, operation in ready])
    answers += [_answer(call, outcome) for (call, _), outcome in zip(ready, outcomes, strict=True)]
    runtime.answer([answer for answer in answers if not answer.ignored])
    return {answer.task_id: answer.error is None for answer in answers}


def _operation(call: Call) -> Operation:
    declaration = DECLARED[call.name]
    return operation_of(declaration, call.task_id, cast(Write, declaration.message.parse(call.arguments)))


def _answer(call: Call, outcome: Outcome) -> Answer:
    error: FleetError | None = outcome.error
    return Answer(call.task_id, outcome.answer, error, call.reply_to, call.ignore_result)
