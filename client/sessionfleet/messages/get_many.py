"""session.get_many: up to 500 sessions in one read (row Q-01)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from sessionfleet.messages.base import Message, Reference


class GetMany(Message, name="session.get_many"):
    """Several sessions by either id: from the cache, the rest from PostgreSQL (Q-01).

    An answer carries about 16 MiB. What is more than that is `left`: ask for those in the next call.
    """

    answer: ClassVar[str] = (
        "{items: [document], missing: [id], left: [id]}, each in the order in which they were asked for"
    )

    session_ids: Annotated[list[Reference], Field(min_length=1, max_length=500)] = Field(
        description="uuids or external ids; one that is named twice comes once"
    )
