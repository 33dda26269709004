"""session.answers: what writes answered, by their idempotency keys (row B-13)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from sessionfleet.messages.base import Message, Name


class StoredAnswers(Message, name="session.answers"):
    """Stored answers of writes that succeeded, for callers whose answer got lost on its way. Changes nothing.

    One answer carries about 16 MiB of them. Where they are more, `left` has the keys to ask for in the next call.
    """

    answer: ClassVar[str] = (
        "{items: [{idempotency_key, task_id, answer}], left: [key]}; an item for each key that has an answer"
    )

    keys: Annotated[list[Name], Field(min_length=1, max_length=500)] = Field(
        description="idempotency keys; ``task_id`` in the answer is that of the first use of the key"
    )
