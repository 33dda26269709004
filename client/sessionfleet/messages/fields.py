"""Fields several messages share: the writable columns of a session (A-03) with their bounds."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from sessionfleet.errors import SessionExpired, SessionNotFound, VersionConflict
from sessionfleet.jsonvalue import JsonObject, jsonable
from sessionfleet.messages.base import Errors, Message, Name, Reference, Text, Write
from sessionfleet.words import Priority, RuntimeBackend


def _priority(value: Any) -> Any:
    return "medium" if value == "normal" else value


AnyPriority = Annotated[
    Priority,
    BeforeValidator(_priority, json_schema_input_type=Literal["critical", "high", "medium", "normal", "low"]),
]
"""critical, high, medium (alias normal) or low (E-14)."""


def _sorted_set(value: Any) -> Any:
    return jsonable(value) if isinstance(value, set | frozenset) else value


_Names = Annotated[list[Name], Field(max_length=10000)]
Names = Annotated[_Names, BeforeValidator(_sorted_set, json_schema_input_type=_Names)]
"""At most 10,000 names; a Python set becomes a sorted list (B-07)."""

SessionType = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")]
TimeoutSeconds = Annotated[int, Field(ge=1, le=604800)]
"""Seconds of inactivity until a session expires, 60..604800; 1..604800 in the test environment (E-01)."""

MaxEvents = Annotated[int, Field(ge=10, le=100000)]
Counters = Annotated[
    JsonObject,
    Field(description="Integers add up, lists append (last 1000 kept), other values replace (B-06)."),
]


class Writable(Message):
    """The columns a caller may write, at creation and later. Absent = unchanged, null = cleared (B-04)."""

    work_state: Name | None = None
    session_type: SessionType = "conversation"
    user_id: Name | None = None
    owner_id: Name | None = None
    agent_id: Name | None = None
    orchestrator_id: Name | None = None
    conversation_id: Name | None = None
    provider: Name | None = None
    model: Name | None = None
    query: Text | None = None
    current_directory: Text | None = None
    process_id: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = Field(
        None, description="Process id of the executor; changes only when given (A-13)."
    )
    runtime_backend: RuntimeBackend | None = None
    runtime_metadata: JsonObject = Field(default_factory=dict, description="container_id, pod_name, pid, ... (A-14)")
    context: JsonObject = Field(default_factory=dict, description="Working state, at most max_context_bytes (B-08).")
    metadata: JsonObject = Field(default_factory=dict, description="Free data, at most max_metadata_bytes (B-08).")
    checkpoint: JsonObject | None = Field(None, description="The current checkpoint document; null clears it.")
    priority: AnyPriority = "medium"
    timeout_seconds: TimeoutSeconds | None = Field(None, description="Default: session_timeout_seconds (E-01).")
    max_events: MaxEvents | None = Field(None, description="Default: max_events_per_session.")
    error_message: Text | None = None


class SessionWrite(Write):
    """A write on one session, found by uuid or external id (A-02)."""

    errors: ClassVar[Errors] = (SessionNotFound, SessionExpired, VersionConflict)

    session_id: Reference = Field(description="uuid or external_id of the session")

    @property
    def session_keys(self) -> tuple[str, ...]:
        return (self.session_id,)
