"""From a call to the message that is sent, and from what Celery stored to the answer.

Both clients share this page; nothing here touches a network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sessionfleet.errors import CallTimeout, FleetError, Internal, UnknownOperation, ValidationFailed, from_shape
from sessionfleet.messages import Write, message_type
from sessionfleet.words import PRIORITIES

Answer = dict[str, Any]

STEPS: Mapping[str, int] = {"critical": 0, "high": 3, "medium": 6, "low": 9}
"""Priority word -> broker priority, 0 is served first (E-14)."""

READY = frozenset({"SUCCESS", "FAILURE", "REVOKED"})
"""Celery's final states; anything else stored under a task id is progress."""


@dataclass(frozen=True)
class Request:
    """One message, ready to be sent any number of times under the same task id."""

    task_id: str
    name: str
    queue: str
    arguments: dict[str, Any]
    priority: int

    @property
    def idempotency_key(self) -> str | None:
        """The key of a write; None for reads and duties, which may be repeated freely."""
        key: str | None = self.arguments.get("idempotency_key")
        return key

    @property
    def facts(self) -> dict[str, Any]:
        """What an error says of it: who repeats it goes by its key."""
        return {"operation": self.name, "task_id": self.task_id, "idempotency_key": self.idempotency_key}

    def own(self, error: FleetError) -> FleetError:
        """An error that it shares with others, as its own."""
        told = type(error)({**error.shape(), "details": {**error.details, **self.facts}})
        told.__cause__ = error.__cause__
        return told

    def timed_out(self, seconds: float) -> CallTimeout:
        """The error for an answer that did not come in time."""
        waited = round(seconds, 1)
        free = None if self.idempotency_key else f"{self.name} gave no answer within {waited} s. It may be repeated."
        return CallTimeout(message=free, seconds=waited, **self.facts)


def prepare(
    task_id: str,
    name: str,
    arguments: dict[str, Any],
    *,
    deadline: float | None = None,
    message_priority: str | None = None,
) -> Request:
    """Check a call and complete it: idempotency key (the task id, unless one is given), deadline, queue, priority.

    ``deadline`` is in seconds from now and for writes only (E-19). ``message_priority`` is the
    place in the queue, default medium; a session is created at its own priority. Raises
    :class:`UnknownOperation` or :class:`ValidationFailed`; nothing has been sent then.
    """
    kind = message_type(name)
    if issubclass(kind, Write):
        if arguments.get("idempotency_key") is None:
            arguments["idempotency_key"] = task_id
        if deadline is not None:
            arguments["deadline_at"] = _from_now(deadline)
    elif deadline is not None:
        raise ValidationFailed.of("deadline", f"{name} only reads or may run any time: it takes no deadline")
    message = kind.parse(arguments)
    if message_priority is None:
        message_priority = getattr(message, "priority", "medium") if name == "session.create" else "medium"
    if message_priority not in STEPS:
        raise ValidationFailed.of("message_priority", f"must be one of {', '.join(PRIORITIES)}")
    return Request(task_id, name, kind.queue, message.arguments(), STEPS[message_priority])


def _from_now(seconds: float) -> datetime:
    try:
        return datetime.now(UTC) + timedelta(seconds=seconds)
    except (OverflowError, ValueError):
        raise ValidationFailed.of("deadline", "must be seconds from now, before the year 10000") from None


def answer_of(request: Request, stored: Mapping[str, Any]) -> Answer:
    """The answer in a stored Celery result of a final state, or its typed error raised."""
    if stored.get("status") == "SUCCESS":
        answer: Answer = stored["result"]
        return answer
    raise _failure(request, stored.get("result"))


def _failure(request: Request, result: Any) -> FleetError:
    found: Mapping[str, Any] = result if isinstance(result, Mapping) else {}
    kind = str(found.get("exc_type", "an error"))
    parts = found.get("exc_message")
    first = parts[0] if isinstance(parts, list | tuple) and parts else parts
    if isinstance(first, dict) and "code" in first:
        return from_shape(first)
    if kind == "NotRegistered":  # a stock worker's word for it
        return UnknownOperation(operation=request.name)
    return Internal(
        message=f"{request.name} ended with {kind}: {first}",
        operation=request.name,
        task_id=request.task_id,
        exc_type=kind,
    )


def next_page(arguments: dict[str, Any], answer: Answer) -> dict[str, Any] | None:
    """The arguments of the page after this one, or None at the end (Q-03).

    Lists continue by ``cursor``; reads by number (``session.get_events``, ``session.history``) by
    ``after_seq``, or by ``before_seq`` where they go backwards.
    """
    cursor = answer.get("next_cursor")
    if cursor is None or not answer.get("items"):
        return None
    backwards = arguments.get("order") == "desc"
    field = ("before_seq" if backwards else "after_seq") if isinstance(cursor, int) else "cursor"
    return {**arguments, field: cursor}
