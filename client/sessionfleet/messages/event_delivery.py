"""event.*: consumer groups, dead letters of events, the log of all sessions (rows D-11, D-12, D-14)."""

from __future__ import annotations

from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from sessionfleet.errors import Unavailable
from sessionfleet.messages.base import Duty, Errors, Message, Name, Text, Write
from sessionfleet.words import ConsumerGroup


def _entry_id(value: str) -> str:
    if any(int(part) >= 2**64 for part in value.removeprefix("retry/").split("-")):
        raise ValueError("is not the id of a Stream entry")
    return value


EntryId = Annotated[str, Field(pattern=r"^(retry/)?[0-9]{1,20}-[0-9]{1,20}$"), AfterValidator(_entry_id)]
EventCursor = Annotated[str, Field(pattern=r"^[0-9]{1,18}-[0-9]{1,18}$")]
LetterId = Annotated[int, Field(ge=1, le=2**63 - 1)]
LetterIds = Annotated[list[LetterId], Field(min_length=1, max_length=1000)]


class Failed(BaseModel):
    """An event its consumer could not handle, and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stream_id: EntryId
    reason: Text


class Consume(Duty, name="event.consume"):
    """Take events as one consumer of a group, and say what became of those taken before (D-11).

    Each event is with one consumer at a time. One that was neither acknowledged nor failed for 30
    seconds is given out again, at most 3 times in all, then it is a dead letter; so is an entry that
    holds no event. Where `limit` events are large, about 8 MiB are taken. At least once: take a repeat by
    its `event_id`. The client's `consume` does the same without a task, and waits for events.
    """

    queue: ClassVar[str] = "sessions"
    answer: ClassVar[str] = (
        "{items: [{stream_id, deliveries, event: envelope}], acknowledged, returned: [stream_id], dead_letters}"
    )
    errors: ClassVar[Errors] = (Unavailable,)

    group: ConsumerGroup
    consumer: Name = Field(description="Name of the taker, of its own in its group.")
    limit: Annotated[int, Field(ge=0, le=100)] = 10
    ack: Annotated[list[EntryId], Field(max_length=1000)] = Field(
        default_factory=list, description="`stream_id` of events that were handled."
    )
    fail: Annotated[list[Failed], Field(max_length=1000)] = Field(
        default_factory=list,
        description="Events that were not: given out again after 1 and 2 seconds, then a dead letter.",
    )


class EventDeadLetters(Message, name="event.dead_letters"):
    """List events nobody could take, latest first (D-12).

    A page ends before its limit where its events have about 16 MiB.
    """

    queue: ClassVar[str] = "maintenance"
    answer: ClassVar[str] = (
        "{items: [{id, event_id, original_subject, consumer_group, stream_id, failure_reason, deliveries, "
        "dlq_timestamp, requeued_at, envelope}], next_cursor}"
    )

    group: ConsumerGroup | None = Field(None, description="Of one consumer group.")
    session_id: Name | None = Field(None, description="uuid of one session.")
    requeued: bool = Field(False, description="Also those that were requeued.")
    limit: Annotated[int, Field(ge=1, le=100)] = 50
    cursor: Annotated[str, Field(pattern=r"^[0-9]{1,18}$")] | None = Field(
        None, description="From the answer before: the next page."
    )


class RequeueEvents(Write, name="event.requeue"):
    """Give events once more to the group that gave them up, or to all groups where the relay did.

    Once, however often it is asked. Nobody but the group sees them, and the log has no new event.
    """

    queue: ClassVar[str] = "maintenance"
    answer: ClassVar[str] = "{requeued: [id], skipped: [id]}"
    errors: ClassVar[Errors] = (Unavailable,)

    ids: LetterIds = Field(description="Unknown ids, requeued ones and entries that were no event are skipped.")


class DiscardEvents(Write, name="event.discard"):
    """Forget dead letters of events for good."""

    queue: ClassVar[str] = "maintenance"
    answer: ClassVar[str] = "{discarded: count}"

    ids: LetterIds


class ReplayEvents(Message, name="event.replay"):
    """Read the log of all sessions in commit order, by time range, types and sessions (D-14).

    `next_cursor` is null once everything that is committed was read. A reader that follows asks again
    with `cursor`: what commits later comes after it, so nothing is skipped. A page ends before its limit where its
    events have about 16 MiB.
    """

    queue: ClassVar[str] = "maintenance"
    answer: ClassVar[str] = "{items: [envelope], next_cursor, cursor}"

    since: AwareDatetime | None = Field(None, description="Events from this instant on.")
    until: AwareDatetime | None = Field(None, description="Events before this instant.")
    types: Annotated[list[Name], Field(min_length=1, max_length=100)] | None = Field(
        None, description="Canonical event names."
    )
    session_ids: Annotated[list[UUID], Field(min_length=1, max_length=1000)] | None = None
    cursor: EventCursor | None = Field(None, description="From the answer before.")
    limit: Annotated[int, Field(ge=1, le=1000)] = 1000
