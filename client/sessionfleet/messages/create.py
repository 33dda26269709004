"""session.create (rows A-01, A-02, A-05, A-15, A-16)."""

from __future__ import annotations

from typing import ClassVar, Literal
from uuid import UUID

from pydantic import Field

from sessionfleet.errors import AgentNotFound, CheckpointTooLarge, PayloadTooLarge, SessionExists
from sessionfleet.messages.base import Errors, Name, Reference, Write
from sessionfleet.messages.fields import Counters, Names, Writable
from sessionfleet.words import OWN_NAME


class Create(Writable, Write, name="session.create"):
    """Create a session: row, first transition, `session.created` and audit row in one transaction.

    All arguments are optional. A taken `external_id` or `id` is SESSION_EXISTS, or the existing
    document with `changed=false` under `if_exists="return"`.
    """

    answer: ClassVar[str] = "the session document"
    errors: ClassVar[Errors] = (SessionExists, PayloadTooLarge, CheckpointTooLarge, AgentNotFound)

    id: UUID | None = Field(None, description="Default: a random uuid.")
    external_id: Reference | None = Field(
        None,
        description="Default: session_{orchestrator_id}_{12 hex} with an orchestrator, else sess-{uuid}. Give a uuid "
        "as `id`: two creations at the same moment may take one uuid, as `id` and as `external_id`.",
    )
    if_exists: Literal["error", "return"] = "error"
    status: Literal["initializing", "active"] = "initializing"
    status_reason: Name | None = None
    account_ids: Names = Field(default_factory=list)
    tags: Names = Field(default_factory=list)
    entity_ids: Names = Field(
        default_factory=list, description="Entities touched at the start: adds a `start` event."
    )
    metrics: Counters = Field(default_factory=dict)

    @property
    def session_keys(self) -> tuple[str, ...]:
        """Both of a create that names both, or names the id that its external id is made of: either may be taken."""
        if self.id is None:
            return () if self.external_id is None else (self.external_id,)
        id_ = str(self.id)
        made = None if self.orchestrator_id is not None else OWN_NAME + id_
        external_id = self.external_id or made
        return (id_,) if external_id in (None, id_) else (id_, external_id)
