"""deadletter.*: task messages that no worker could take, for operators (rows D-18, P-11)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from sessionfleet.errors import DeadLetterNotFound
from sessionfleet.messages.base import Duty, Errors, Message, Name, Write

Ids = Annotated[list[Annotated[int, Field(ge=1, le=2**63 - 1)]], Field(min_length=1, max_length=1000)]


class ListDeadLetters(Message, name="deadletter.list"):
    """List messages that were put away, latest first."""

    queue: ClassVar[str] = "maintenance"
    answer: ClassVar[str] = (
        "{items: [{id, queue, task_name, task_id, reason, size, deliveries, seen, first_seen_at, last_seen_at,"
        " requeued_at}], cursor}"
    )

    from_queue: Name | None = Field(None, description="Of one queue.")
    task_name: Name | None = Field(None, description="Of one task.")
    reason: Name | None = Field(None, description="Whose reason contains this text.")
    requeued: bool = Field(False, description="Also those that were requeued and have not come back.")
    limit: int = Field(50, ge=1, le=1000)
    cursor: Name | None = Field(None, description="From the answer before: the next page.")


class ShowDeadLetter(Message, name="deadletter.show"):
    """Show one message that was put away, with its content."""

    queue: ClassVar[str] = "maintenance"
    answer: ClassVar[str] = (
        "as in deadletter.list, with `raw` (the first 256 KiB of the message as text, or base64 when `encoding`"
        " says so) and `complete`"
    )
    errors: ClassVar[Errors] = (DeadLetterNotFound,)

    id: int = Field(ge=1, le=2**63 - 1)


class RequeueDeadLetters(Write, name="deadletter.requeue"):
    """Put messages back into their queues, as they came; one that was requeued already stays where it is.

    What made them unfit should have been mended before: a newer release, a server with more room.
    """

    queue: ClassVar[str] = "maintenance"
    answer: ClassVar[str] = "{requeued: [id], skipped: [id]}"

    ids: Ids = Field(description="Unknown ids, messages that are cut and those without a known queue are skipped.")


class DiscardDeadLetters(Write, name="deadletter.discard"):
    """Forget messages for good."""

    queue: ClassVar[str] = "maintenance"
    answer: ClassVar[str] = "{discarded: count}"

    ids: Ids


class DrainQuarantine(Duty, name="maintenance.drain_quarantine"):
    """Move messages that workers put away from Redis to PostgreSQL, where deadletter.list shows them."""

    answer: ClassVar[str] = "{kept: count}"
