"""session.emit_event and get_events (rows D-04, D-05, D-13)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from sessionfleet.errors import EventLimit, InvalidTransition, PayloadTooLarge, SessionNotFound
from sessionfleet.jsonvalue import JsonObject
from sessionfleet.messages.base import Errors, Message, Name, Reference, Text, Word
from sessionfleet.messages.fields import Names, SessionWrite
from sessionfleet.renderings import Rendering
from sessionfleet.words import Severity


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ChangeInfo(_Part):
    """What was touched: kind of element, the entities and the operation; words are open (D-05)."""

    elementType: Word
    entityIds: Names = Field(default_factory=list)
    operation: Word
    affectedLines: list[int] | int | None = None
    semanticHash: Name | None = None


class StateTransition(_Part):
    """A move of the work state, who verified it and how surely (0..1)."""

    from_: Word | None = Field(None, alias="from")
    to: Word
    verifiedBy: Word | None = None
    confidence: Annotated[float, Field(ge=0, le=1)] | None = None


class Impact(_Part):
    """What the change did to others."""

    severity: Severity
    testsFailed: list[Text] = Field(default_factory=list)
    perfDelta: float | None = None
    externalRef: Text | None = None


class EmitEvent(SessionWrite, name="session.emit_event"):
    """Record an event of the session; answers its `seq` (D-04)."""

    answer: ClassVar[str] = "{session_id, seq, event_name, state_version}"
    errors: ClassVar[Errors] = (*SessionWrite.errors, InvalidTransition, PayloadTooLarge, EventLimit)

    type: Word = Field(
        description="Open word. The fleet's own events have a dot in their name, so none can be forged."
    )
    change_info: ChangeInfo | None = None
    state_transition: StateTransition | None = None
    impact: Impact | None = None
    payload: JsonObject = Field(default_factory=dict)
    reset_ttl: bool = Field(True, description="Counts as activity (E-02).")
    publish: bool = Field(True, description="false keeps it off pub/sub; it stays in log and streams.")
    auto_checkpoint: bool = Field(True, description="Counts towards the automatic checkpoint (F-03).")


class OwnEvent(EmitEvent):
    """An event of the fleet itself, never sent by callers: its name has a dot, which their words cannot have."""

    type: Annotated[str, Field(pattern=r"^[a-z0-9_]+(\.[a-z0-9_]+)+$")]


class GetEvents(Message, name="session.get_events"):
    """Read a session's events by cursor; the cursor is `seq` and never too old (D-13).

    `next_cursor` is the `after_seq` of the next page, with order desc its `before_seq`. A page ends before its limit
    where its events have about 16 MiB.
    As CloudEvents 1.0 or AG-UI events where `render` says so (D-17); one event may be several AG-UI ones.
    """

    answer: ClassVar[str] = "{items: [envelope, or as rendered], next_cursor, last_seq}"
    errors: ClassVar[Errors] = (SessionNotFound,)

    session_id: Reference
    after_seq: Annotated[int, Field(ge=0)] = 0
    before_seq: Annotated[int, Field(ge=1)] | None = None
    types: Annotated[list[Name], Field(max_length=100)] | None = Field(None, description="Canonical event names.")
    agents: Annotated[list[Name], Field(max_length=100)] | None = Field(None, description="Actors.")
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    order: Literal["asc", "desc"] = "asc"
    limit: Annotated[int, Field(ge=1, le=1000)] = 50
    render: Rendering | None = Field(None, description="In the words of another format.")
