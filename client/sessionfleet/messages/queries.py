"""Reads of sessions (rows A-20, Q-01..Q-04). A read changes nothing, not even expiry (E-02)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, Field

from sessionfleet.errors import SessionNotFound
from sessionfleet.jsonvalue import JsonObject
from sessionfleet.messages.base import Errors, Message, Name, Reference
from sessionfleet.messages.fields import AnyPriority
from sessionfleet.words import Status

Limit = Annotated[int, Field(ge=1, le=1000)]
Part = Literal["events", "checkpoint"]


class Get(Message, name="session.get"):
    """One session by either id: from the cache, else from PostgreSQL (Q-01)."""

    answer: ClassVar[str] = "the session document; with `include`, the parts beside it"
    errors: ClassVar[Errors] = (SessionNotFound,)

    session_id: Reference
    include: list[Part] = Field(
        default_factory=list,
        description="events = the last 50, oldest first; of large ones the last that have about 16 MiB together.",
    )
    min_version: Annotated[int, Field(ge=0)] = Field(
        0, description="Refuse a cached document whose `state_version` is lower and ask PostgreSQL."
    )


class Attach(Message, name="session.attach"):
    """One session and the place in its log that this state belongs to, from one snapshot of the database: whoever
    shows the document and follows the events after `cursor` misses nothing and sees nothing twice (D-15).

    Never from the cache. With `after_seq` the first page of the events up to `cursor` that a reader has missed
    comes along, at most `limit` and about 16 MiB of them; `session.get_events` reads the rest.
    """

    answer: ClassVar[str] = (
        "{session: document, state_version, cursor, last_chunk}; with `after_seq` also "
        "{items: [envelope], next_cursor}"
    )
    errors: ClassVar[Errors] = (SessionNotFound,)

    session_id: Reference
    after_seq: Annotated[int, Field(ge=0)] | None = Field(
        None, description="`seq` of the last event the reader knows; at most the session's last."
    )
    limit: Annotated[int, Field(ge=1, le=1000)] = Field(500, description="Events at most.")


class Filters(Message):
    """What lists and counts select by; all given filters must hold."""

    status: Status | list[Status] | None = None
    session_type: Name | None = None
    user_id: Name | None = None
    owner_id: Name | None = None
    agent_id: Name | None = None
    orchestrator_id: Name | None = None
    conversation_id: Name | None = None
    tag: Name | None = None
    account_id: Name | None = None
    priority: AnyPriority | None = None
    work_state: Name | None = None
    created_after: AwareDatetime | None = None
    created_before: AwareDatetime | None = None
    updated_after: AwareDatetime | None = None
    updated_before: AwareDatetime | None = None
    active_after: AwareDatetime | None = Field(None, description="last_activity at or after")
    active_before: AwareDatetime | None = Field(None, description="last_activity before")
    recovery_needed: bool | None = None
    metadata: JsonObject | None = Field(None, description="metadata contains this object")
    context: JsonObject | None = Field(None, description="context contains this object")
    include_deleted: bool = Field(False, description="Show tombstones too.")
    include_archived: bool = False


class List(Filters, name="session.list"):
    """Sessions, newest first, by keyset: pages stay right while sessions are created (Q-02, Q-03).

    A page ends before its limit where its items have about 16 MiB.
    """

    answer: ClassVar[str] = "{items: [document], next_cursor}"

    limit: Limit = 100
    cursor: Annotated[str, Field(max_length=512)] | None = Field(None, description="`next_cursor` of the last page.")


class Count(Filters, name="session.count"):
    """How many sessions match, in all and per status (Q-03)."""

    answer: ClassVar[str] = "{total, by_status: {status: count}}"


class GetByUser(Message, name="session.get_by_user"):
    """All sessions of a user, newest first, and the newest alone (Q-04).

    A page ends before its limit where its items have about 16 MiB.
    """

    answer: ClassVar[str] = "{items: [document], next_cursor, latest: document or null}"

    user_id: Name
    limit: Limit = 100
    cursor: Annotated[str, Field(max_length=512)] | None = None


class ListActive(Message, name="session.list_active"):
    """Live sessions, newest first (Q-04).

    A page ends before its limit where its items have about 16 MiB.
    """

    answer: ClassVar[str] = "{items: [document], next_cursor}"

    limit: Limit = 100
    cursor: Annotated[str, Field(max_length=512)] | None = None


class History(Message, name="session.history"):
    """Every transition of a session, oldest first (A-20).

    A page ends before its limit where its reasons have about 16 MiB.
    """

    answer: ClassVar[str] = "{items: [{seq, from, to, reason, actor, task_id, at}], next_cursor}"
    errors: ClassVar[Errors] = (SessionNotFound,)

    session_id: Reference
    after_seq: Annotated[int, Field(ge=0)] = 0
    limit: Limit = 100
