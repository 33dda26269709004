"""Every error a caller can meet, as facts under one root (feature row R-07).

One shape crosses the wire: ``{code, message, details, retryable, retry_after_ms, http_status,
legacy_codes}``. A worker raises the class, Celery stores the shape as the only argument of the
exception, and whoever reads the result - our client, a plain Celery producer, Flower's HTTP API -
finds the same object again. An operation that ends in one of these has changed nothing, with one
exception: :class:`SessionExpired` may have moved an overdue session to ``expired`` (row E-06).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, ClassVar

Shape = dict[str, Any]


class FleetError(Exception):
    """Root of all typed errors.

    ``FleetError(message=..., **details)`` makes a new one; ``FleetError(shape)`` (one positional
    dict) restores one from the wire, which is how Celery rebuilds it from a stored result.
    Attributes: ``code`` (upper snake case), ``message`` (one sentence), ``details`` (JSON object
    that names the field or id), ``retryable`` (the same call may succeed later),
    ``retry_after_ms`` (advice, or None), ``http_status``, ``legacy_codes`` (list of text).
    """

    code: str = "INTERNAL"
    retryable: ClassVar[bool] = False
    http_status: ClassVar[int] = 500
    template: ClassVar[str] = "The operation failed inside the fleet."
    legacy_codes: ClassVar[tuple[str, ...]] = ()
    dead_letter: bool = False
    """Whether the message that ended with it is kept for an operator (D-18)."""

    message: str
    details: dict[str, Any]
    retry_after_ms: int | None

    def __init__(
        self,
        shape: Shape | None = None,
        /,
        *,
        message: str | None = None,
        retry_after_ms: int | None = None,
        **details: Any,
    ) -> None:
        if shape is not None:
            self.code = str(shape.get("code", self.code))  # a newer fleet may know more codes
            self.message = str(shape.get("message", ""))
            self.details = dict(shape.get("details") or {})
            self.retry_after_ms = shape.get("retry_after_ms")
        else:
            self.details = details
            self.message = message if message is not None else self.template.format_map(_Gaps(details))
            self.retry_after_ms = retry_after_ms
        super().__init__(self.shape())

    def shape(self) -> Shape:
        """The wire shape of R-07; JSON can hold it as it is."""
        return {
            "code": self.code,
            "message": self.message,
            "details": self.details,
            "retryable": self.retryable,
            "retry_after_ms": self.retry_after_ms,
            "http_status": self.http_status,
            "legacy_codes": list(self.legacy_codes),
        }

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"

    def __repr__(self) -> str:
        # Flower's HTTP API answers repr() of a failed task's exception: this makes it JSON.
        return json.dumps(self.shape(), ensure_ascii=False)


class _Gaps(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return f"<{key}>"


class ValidationFailed(FleetError):
    """The arguments do not fit; ``details.fields`` lists ``{field, message}``. Never retried."""

    code = "VALIDATION_FAILED"
    http_status = 422
    template = "The arguments are not valid."

    @classmethod
    def of(cls, field: str, message: str, **details: Any) -> ValidationFailed:
        """One field and what is wrong with it."""
        return cls(message=f"{field}: {message}", fields=[{"field": field, "message": message}], **details)


class UnknownOperation(FleetError):
    """No operation has this wire name; ``details.operation``."""

    code = "UNKNOWN_OPERATION"
    http_status = 404
    template = "There is no operation named {operation!r}."


class SessionNotFound(FleetError):
    """No session has this id or external id, or it was deleted (A-12); ``details.session_id``."""

    code = "SESSION_NOT_FOUND"
    http_status = 404
    template = "Session not found: {session_id}"


class SessionExists(FleetError):
    """The external id is taken (A-02); ``details.external_id``, ``details.session_id`` of the holder."""

    code = "SESSION_EXISTS"
    http_status = 409
    template = "A session with external_id {external_id!r} exists already."


class SessionExpired(FleetError):
    """The session is expired, or was overdue and this call expired it (E-06). A status verb on one that is expired
    already is INVALID_TRANSITION."""

    code = "SESSION_EXPIRED"
    http_status = 410
    template = "Session {session_id} expired at {expires_at}."


class InvalidTransition(FleetError):
    """The move is not in the table of A-06; ``details.from``, ``details.to``, ``details.allowed``."""

    code = "INVALID_TRANSITION"
    http_status = 400
    template = "A session cannot go from {from} to {to}; allowed from there: {allowed}."

    @classmethod
    def of(cls, current: str, to: str, allowed: Iterable[str], message: str | None = None) -> InvalidTransition:
        """The move that was asked for and the moves there are."""
        details: dict[str, Any] = {"from": current, "to": to, "allowed": sorted(allowed)}
        return cls(message=message, **details)


class VersionConflict(FleetError):
    """``expected_version`` is not the current one (B-02); ``details.expected``, ``details.current``."""

    code = "VERSION_CONFLICT"
    http_status = 409
    template = "Session {session_id} is at version {current}, not {expected}."


class IdempotencyConflict(FleetError):
    """The key was used with another body (B-13); ``details.first_task_id`` names its first use."""

    code = "IDEMPOTENCY_CONFLICT"
    http_status = 409
    template = "Idempotency key {idempotency_key!r} was used by task {first_task_id} with another body."


class PatchTestFailed(FleetError):
    """A ``test`` operation of an RFC 6902 patch did not hold (B-01); nothing was written."""

    code = "PATCH_TEST_FAILED"
    http_status = 409
    template = "A test operation of the patch on {field} failed: {reason}"


class PayloadTooLarge(FleetError):
    """A value is above its limit (B-08); ``details.size`` and ``details.limit`` in bytes."""

    code = "PAYLOAD_TOO_LARGE"
    http_status = 413
    template = "{field} has {size} bytes, the limit is {limit}."


class CheckpointTooLarge(PayloadTooLarge):
    """A checkpoint above max_checkpoint_bytes (F-04)."""

    code = "CHECKPOINT_TOO_LARGE"
    legacy_codes = ("E2031",)


class EventLimit(FleetError):
    """The session has max_events events and the fleet refuses more (D-16); ``details.limit``. Changes of the
    session itself are never refused for it."""

    code = "EVENT_LIMIT"
    http_status = 409
    template = "Session {session_id} has {limit} events, which is its limit."


class AgentNotFound(FleetError):
    """With check_agents on, the agent is not registered (A-16); ``details.agent_id``."""

    code = "AGENT_NOT_FOUND"
    http_status = 404
    template = "Agent {agent_id} is not registered."


class DeadlineExceeded(FleetError):
    """``deadline_at`` had passed when a worker took the message; it did not run (E-19)."""

    code = "DEADLINE_EXCEEDED"
    http_status = 504
    template = "The deadline {deadline_at} passed before the operation started."


class NotApplied(FleetError):
    """Another operation that had to happen together with this one failed, so this one did not either;
    ``details.index`` is the place of the one that failed, ``details.code`` its error."""

    code = "NOT_APPLIED"
    http_status = 424
    template = "Not applied, because operation {index} of the same whole failed with {code}."


class ScheduleNotFound(FleetError):
    """No schedule has this id; ``details.schedule_id``."""

    code = "SCHEDULE_NOT_FOUND"
    http_status = 404
    template = "Schedule not found: {schedule_id}"


class InvalidSchedule(FleetError):
    """The schedule's fields do not fit (H-03); ``details.field`` and ``details.example``."""

    code = "INVALID_SCHEDULE"
    http_status = 422
    template = "{field}: {reason}"


class Unavailable(FleetError):
    """PostgreSQL or the broker does not answer (A-12, B-12). The same call may be repeated; with
    the same idempotency key it has one effect however often."""

    code = "UNAVAILABLE"
    retryable = True
    http_status = 503
    template = "{service} is not available: {reason}"


class BufferFull(FleetError):
    """The broker takes nothing and as many messages wait for it in this client as it was allowed to keep; this one
    was not sent. ``details.limit``, ``details.idempotency_key``. Raised by the client only."""

    code = "BUFFER_FULL"
    retryable = True
    http_status = 503
    template = "{limit} messages wait for the broker already; {operation} was not sent."


class CallTimeout(FleetError):
    """The client stopped waiting. The operation may still happen: repeat the call with the
    ``details.idempotency_key`` and it has one effect, whichever of the two came first (B-13)."""

    code = "TIMEOUT"
    retryable = True
    http_status = 504
    template = (
        "{operation} gave no answer within {seconds} s; it may still happen. "
        "Repeating it with the same idempotency key is safe."
    )


class DeadLetterNotFound(FleetError):
    """No message was put away under this id, or it was discarded; ``details.id``."""

    code = "DEAD_LETTER_NOT_FOUND"
    http_status = 404
    template = "There is no dead letter {id}."


class DeliveryLimit(FleetError):
    """The processes that ran this message died of it too often; it was put away and can be requeued.
    ``details.deliveries``. Whether one of the tries took effect, a call with the same idempotency key tells."""

    code = "DELIVERY_LIMIT"
    template = "{operation} ended {deliveries} processes and was put away."
    dead_letter = True

    @property
    def deliveries(self) -> int:
        """How often it was started."""
        return int(self.details.get("deliveries", 1))


class TimeLimit(FleetError):
    """The task ran longer than task_time_limit and was ended; ``details.seconds``. What it had not
    committed was rolled back."""

    code = "TIME_LIMIT"
    http_status = 504
    template = "{operation} was ended after {seconds} s."


class Internal(FleetError):
    """A defect of the fleet: the log of the named task has the traceback; nothing was written."""


def _codes(root: type[FleetError]) -> dict[str, type[FleetError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found.update(_codes(child))
    return found


def from_shape(shape: Shape) -> FleetError:
    """The typed error for a wire shape; an unknown code (a newer fleet) becomes ``FleetError``."""
    return CODES.get(str(shape.get("code")), FleetError)(shape)


CODES: dict[str, type[FleetError]] = {**_codes(FleetError), FleetError.code: Internal}
"""Code -> class, the whole catalogue of R-07 that exists."""
