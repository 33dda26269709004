"""The one way to declare a task.

A declaration names a message class and the function behind it; nothing touches Celery until
:func:`register` builds the tasks for one app, so the functions stay plain and there is no global
app. Five kinds:

- ``operation(Message, verb)``: a verb of ``sessions/`` on one session, through loader and writer;
- ``batch(Message)``: several such operations in one message, through the same transaction;
- ``@command(Message)``: ``f(work, command) -> answer``, one transaction of its own, idempotent by key;
- ``@query(Message)``: ``f(db, command, runtime) -> answer``, reads only;
- ``@duty(Message)``: ``f(runtime, command) -> answer``, opens its own transactions.

Every task takes keyword arguments only, validated by the message class. A typed error is the
task's failure; Celery stores its shape, so any kind of caller can read it. PostgreSQL that does not
answer is E:UNAVAILABLE (A-12); anything unforeseen is E:INTERNAL, with the traceback in the log.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from billiard.exceptions import SoftTimeLimitExceeded
from celery import Celery, Task
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from broker.containment import contained
from sessionfleet.errors import FleetError, Internal, TimeLimit, Unavailable, ValidationFailed
from sessionfleet.jsontext import plain
from sessionfleet.messages.apply import Apply
from sessionfleet.messages.base import Message, Write
from sessionfleet.names import REPLIES
from sessions.change import Batch, Change, Context, Operation, Outcome
from tasks import deliveries
from tasks.patience import for_nobody
from tasks.runtime import Runtime
from tasks.unit_of_work import Work, run_batch, run_command

Kind = Literal["operation", "batch", "command", "query", "duty"]
F = TypeVar("F", bound=Callable[..., Any])

TOGETHER: frozenset[Kind] = frozenset({"operation", "batch"})
"""Kinds whose messages can share a transaction with others (:mod:`tasks.together`). Their answers may be
:class:`sessionfleet.jsontext.Encoded` or hold it."""

ALONE_SECONDS = 5
"""How long an operation that Celery runs by itself waits for rows that somebody holds: its process serves nobody else
meanwhile."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Declaration:
    """One task before there is an app: its message, its kind, the plain function behind it."""

    message: type[Message]
    kind: Kind
    function: Callable[..., Any]
    creates: bool = False
    refuses_overdue: bool = True
    cached: Callable[[Runtime, Any], Any] | None = None


DECLARED: dict[str, Declaration] = {}
"""Wire name -> declaration, filled as the task modules are imported."""


def _declare(declaration: Declaration) -> None:
    name = declaration.message.wire_name
    if name in DECLARED:
        raise TypeError(f"two tasks are named {name}")
    DECLARED[name] = declaration


def operation(
    message: type[Write],
    verb: Callable[[Any, Any, Context], Change],
    *,
    creates: bool = False,
    refuses_overdue: bool = True,
) -> None:
    """Declare a session verb as a task. ``creates``: the session need not exist;
    ``refuses_overdue=False``: the verb also works on a session whose deadline has passed."""
    _declare(Declaration(message, "operation", verb, creates, refuses_overdue))


def batch(message: type[Apply]) -> None:
    """Declare a message that is a list of declared operations."""
    _declare(Declaration(message, "batch", _items))


def command(message: type[Write]) -> Callable[[F], F]:
    """Declare ``f(work: Work, command) -> answer``: a write that is not a verb on one session."""
    return _decorator(message, "command")


def query(message: type[Message], *, cached: Callable[[Runtime, Any], Any] | None = None) -> Callable[[F], F]:
    """Declare ``f(db: Connection, command, runtime) -> answer``: a read. ``cached(runtime, command)``
    is asked first and may answer None; then PostgreSQL is."""
    return _decorator(message, "query", cached)


def duty(message: type[Message]) -> Callable[[F], F]:
    """Declare ``f(runtime: Runtime, command) -> answer``: a periodic duty with its own transactions."""
    return _decorator(message, "duty")


def _decorator(
    message: type[Message], kind: Kind, cached: Callable[[Runtime, Any], Any] | None = None
) -> Callable[[F], F]:
    def declare(function: F) -> F:
        _declare(Declaration(message, kind, function, cached=cached))
        return function

    return declare


class FleetTask(Task):  # type: ignore[misc]
    """A declared task bound to an app that has a ``runtime``."""

    abstract = True
    typing = False  # the message class checks the arguments, and says what is wrong with them
    throws = (FleetError,)
    Request = "broker.request:GuardedRequest"  # keeps the message of a task that can never succeed
    # A task whose process died runs again by task_retry_on_worker_lost, so often and so soon.
    max_retries = 3
    default_retry_delay = 1
    declaration: Declaration

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Validate, execute, answer; raises a FleetError and nothing else.

        But for a write that was sent with ``ignore_result``: see :mod:`tasks.patience`.
        """
        if self.request.ignore_result and issubclass(self.declaration.message, Write):
            return for_nobody(lambda: self._once(*args, **kwargs))
        return self._once(*args, **kwargs)

    def _once(self, *args: Any, **kwargs: Any) -> Any:
        if args:
            raise ValidationFailed.of("arguments", "a task takes keyword arguments only")
        try:
            message = self.declaration.message.parse(kwargs)
            runtime = cast(Runtime, self.app.runtime).bound(self.request.id or "", self.name)
            deliveries.admit(runtime, self.request)
            with contained(self._ended):
                return self._told(execute(self.declaration, runtime, message))
        except FleetError:
            raise
        except SoftTimeLimitExceeded:
            _, soft = self.request.timelimit or (None, None)
            raise TimeLimit(operation=self.name, seconds=soft or self.soft_time_limit) from None
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            raise unavailable(error) from None
        except DBAPIError as error:
            if error.connection_invalidated:
                raise unavailable(error) from None
            raise self._internal() from None
        except Exception:  # noqa: BLE001 - whatever it is, the caller gets a typed error and the log the rest
            raise self._internal() from None

    def _told(self, answer: Any) -> Any:
        """Our replies take encoded text; Celery writes its own results, and knows JSON types only."""
        ours = (self.request.reply_to or "").startswith(REPLIES)
        return answer if ours or self.declaration.kind not in TOGETHER else plain(answer)

    def _ended(self, reason: str) -> Internal:
        log.error("task failed: %s", reason, exc_info=sys.exc_info(), extra={"task_name": self.name})
        return Internal(task_id=self.request.id, operation=self.name, reason=reason)

    def _internal(self) -> Internal:
        log.error("task failed", exc_info=sys.exc_info(), extra={"task_name": self.name})
        return Internal(task_id=self.request.id, operation=self.name)


def execute(declaration: Declaration, runtime: Runtime, message: Message) -> Any:
    """Run one message by its declaration; what a task body comes down to."""
    if declaration.kind in TOGETHER:
        return _operate(declaration, runtime, cast(Write, message))
    if declaration.kind == "command":
        return run_command(runtime, cast(Write, message), declaration.function)
    if declaration.kind == "query":
        if declaration.cached is not None and (answer := declaration.cached(runtime, message)) is not None:
            return answer
        with runtime.engine.connect() as db:
            return declaration.function(db, message, runtime)
    return declaration.function(runtime, message)


def _operate(declaration: Declaration, runtime: Runtime, message: Write) -> Any:
    batch = batch_of(declaration, runtime.task_id, message)
    outcome = outcome_of(declaration, run_batch(runtime, batch, ALONE_SECONDS))
    if outcome.error is not None:
        raise outcome.error
    return outcome.answer


def batch_of(declaration: Declaration, task_id: str, message: Write) -> Batch:
    """The operations of a validated message of one of TOGETHER that came with this task."""
    if not isinstance(message, Apply):
        return Batch([_operation(declaration, task_id, message)])
    key = message.idempotency_key or task_id
    operations = [
        _operation(DECLARED[part.wire_name], task_id, part, f"{key}:{place}")
        for place, part in enumerate(message.messages)
    ]
    return Batch(operations, message.whole)


def outcome_of(declaration: Declaration, outcomes: Sequence[Outcome]) -> Outcome:
    """What a message of one of TOGETHER comes to, from those of its operations."""
    if declaration.kind == "batch":
        return Outcome(answer=declaration.function(outcomes))
    [outcome] = outcomes
    return outcome


def _operation(declaration: Declaration, task_id: str, message: Write, key: str | None = None) -> Operation:
    """``key``: its idempotency key unless it has one of its own; without, the task id is."""
    first, second, *_ = (*message.session_keys, None, None)
    return Operation(
        name=message.wire_name,
        message=message,
        verb=declaration.function,
        task_id=task_id,
        session_key=first,
        key=message.idempotency_key or key or task_id,
        second_key=second,
        creates=declaration.creates,
        refuses_overdue=declaration.refuses_overdue,
    )


def _items(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Each operation's answer or error, in order."""
    items = [
        {"ok": True, "answer": outcome.answer}
        if outcome.error is None
        else {"ok": False, "error": outcome.error.shape()}
        for outcome in outcomes
    ]
    failed = sum(not item["ok"] for item in items)
    return {"items": items, "applied": len(items) - failed, "failed": failed}


def unavailable(error: Exception) -> Unavailable:
    """The typed error of a database that does not answer, or not in time, without its address in it."""
    if lock_not_available(error):
        return held_up()
    lines = str(getattr(error, "orig", error)).strip().splitlines() or [type(error).__name__]
    reason = lines[0].rpartition(" failed: ")[2]  # libpq puts host and port before it
    return Unavailable(service="PostgreSQL", reason=reason)


def lock_not_available(error: Exception) -> bool:
    """Whether a lock was waited for as long as is allowed."""
    return getattr(getattr(error, "orig", None), "pgcode", None) == "55P03"


def held_up() -> Unavailable:
    """The typed error of an operation on a row that is not free."""
    return Unavailable(service="PostgreSQL", reason="another transaction holds the row")


def register(app: Celery) -> None:
    """Build and register every declared task on ``app``."""
    for name, declaration in DECLARED.items():
        attributes = {
            "name": name,
            "declaration": declaration,
            "ignore_result": False,
            "keep_expired": declaration.kind != "duty",  # the next tick is there by then
            "__doc__": declaration.message.__doc__,
        }
        app.register_task(type(name.replace(".", "_"), (FleetTask,), attributes)())


__all__ = [
    "DECLARED",
    "Connection",
    "Declaration",
    "FleetTask",
    "Work",
    "batch",
    "command",
    "duty",
    "execute",
    "operation",
    "query",
    "register",
    "unavailable",
]
