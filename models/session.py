"""Table ``sessions``: the truth about one session (rows A-03, A-04, Q-06).

``revision`` grows by one with every write of the row and orders cache entries; ``state_version``
grows with state changes only and is what callers compare (B-02). ``next_check_at`` is the earliest
instant at which a duty may have to act (a warning or the expiry). It is a lower bound that duties
advance lazily, so that activity, which moves ``expires_at`` all the time, leaves every index alone
and stays a HOT update; a trigger moves it along, and never past ``expires_at``, when a deadline
moves earlier. A deleted session is its own tombstone for 30 days: ``deleted_at`` set, content emptied,
``external_id`` free again (the unique index covers rows that are not deleted).

``context_keys``, ``context_pending``, ``context_seen`` serve the index of contexts and are no state of the session.
An index on the context itself would have each change of it write an entry to every index of the row; its keys (by the
function ``containment_keys``) are brought up to date by ``maintenance.index_contexts`` instead, and a trigger sets
``context_pending`` when the context is written. ``context_seen`` is the ``context_version`` at the duty's last look.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Index, text, true
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, BigInt, Instant, Json, TextList

STATUSES = (
    "initializing",
    "active",
    "idle",
    "waiting_input",
    "paused",
    "interrupted",
    "crashed",
    "completed",
    "terminated",
    "failed",
    "expired",
)
LIVE = STATUSES[:5]


def _one_of(column: str, words: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(word) for word in words)})"


class Session(Base):
    """One row per session; see the module docstring for the versions and the two deadlines."""

    __tablename__ = "sessions"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    external_id: Mapped[str]
    status: Mapped[str]
    status_reason: Mapped[str | None]
    end_reason: Mapped[str | None]
    work_state: Mapped[str | None]
    session_type: Mapped[str]
    user_id: Mapped[str | None]
    owner_id: Mapped[str | None]
    agent_id: Mapped[str | None]
    orchestrator_id: Mapped[str | None]
    conversation_id: Mapped[str | None]
    provider: Mapped[str | None]
    model: Mapped[str | None]
    query: Mapped[str | None]
    current_directory: Mapped[str | None]
    process_id: Mapped[BigInt | None]
    runtime_backend: Mapped[str | None]
    runtime_metadata: Mapped[Json]
    context: Mapped[Json]
    context_version: Mapped[BigInt]
    metadata_: Mapped[Json] = mapped_column("metadata")
    checkpoint: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    account_ids: Mapped[TextList]
    tags: Mapped[TextList]
    priority: Mapped[str]
    timeout_seconds: Mapped[int]
    max_events: Mapped[int]
    metrics: Mapped[Json]
    error_message: Mapped[str | None]
    last_seq: Mapped[BigInt]
    state_version: Mapped[BigInt]
    revision: Mapped[BigInt]
    lease_epoch: Mapped[BigInt]
    recovery_needed: Mapped[bool]
    recovery_type: Mapped[str | None]
    recovery_count: Mapped[int]
    last_chunk: Mapped[BigInt]
    output_bytes: Mapped[BigInt]
    output_lines: Mapped[BigInt]
    last_activity: Mapped[Instant]
    last_heartbeat: Mapped[Instant | None]
    created_at: Mapped[Instant]
    started_at: Mapped[Instant | None]
    updated_at: Mapped[Instant]
    expires_at: Mapped[Instant | None]
    warned_at: Mapped[Instant | None]
    warned_threshold: Mapped[int | None]
    recovered_at: Mapped[Instant | None]
    ended_at: Mapped[Instant | None]
    archived_at: Mapped[Instant | None]
    deleted_at: Mapped[Instant | None]
    next_check_at: Mapped[Instant | None]
    context_keys: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), server_default=text("'{}'"))
    context_pending: Mapped[bool] = mapped_column(server_default=true())
    context_seen: Mapped[BigInt | None]

    __table_args__ = (
        CheckConstraint(_one_of("status", STATUSES), name="status"),
        CheckConstraint(_one_of("runtime_backend", ("local", "kubernetes", "unknown")), name="runtime_backend"),
        CheckConstraint(_one_of("priority", ("critical", "high", "medium", "low")), name="priority"),
        CheckConstraint("next_check_at <= expires_at", name="next_check_at"),
        Index("uq_sessions_external_id", "external_id", unique=True, postgresql_where=text("deleted_at IS NULL")),
        Index("ix_sessions_status_created_at", "status", text("created_at DESC"), text("id DESC")),
        *(
            Index(
                f"ix_sessions_{column}_created_at",
                column,
                text("created_at DESC"),
                text("id DESC"),
                postgresql_where=text(f"{column} IS NOT NULL"),
            )
            for column in ("agent_id", "user_id", "owner_id")
        ),
        Index("ix_sessions_orchestrator_id", "orchestrator_id", postgresql_where=text("orchestrator_id IS NOT NULL")),
        Index("ix_sessions_created_at_id", text("created_at DESC"), text("id DESC")),
        Index("ix_sessions_process_id", "process_id", postgresql_where=text("process_id IS NOT NULL")),
        # BRIN does not stop HOT updates (PostgreSQL 16 and later); a btree on a column that every
        # write moves costs a fifth of the write rate.
        Index("ix_sessions_updated_at", "updated_at", postgresql_using="brin"),
        Index(
            "ix_sessions_live_last_activity",
            "last_activity",
            postgresql_using="brin",
            postgresql_where=text(_one_of("status", LIVE)),
        ),
        Index("ix_sessions_next_check_at", "next_check_at", postgresql_where=text("next_check_at IS NOT NULL")),
        Index(
            "ix_sessions_recovery_needed",
            "recovery_needed",
            "created_at",
            postgresql_where=text("recovery_needed"),
        ),
        Index("ix_sessions_deleted_at", "deleted_at", postgresql_where=text("deleted_at IS NOT NULL")),
        Index("ix_sessions_context_keys", "context_keys", postgresql_using="gin"),
        Index("ix_sessions_context_pending", "id", postgresql_where=text("context_pending")),
        *(
            Index(
                f"ix_sessions_{column}", column, postgresql_using="gin", postgresql_where=text(f"{column} <> '{{}}'")
            )
            for column in ("account_ids", "tags")
        ),
        {"postgresql_with": {"fillfactor": "80"}},
    )
