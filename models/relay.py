"""The relay's tables: cursor, leadership, failures and dead letters (rows D-08, D-09, D-12)."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import BigInteger, Identity, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, BigInt, Instant, Json
from models.session_event import Xid8


class RelayCursor(Base):
    """How far a relay has published: everything up to and with ``(xid, last_id)``.

    ``high_id`` is the highest event id published so far; ``floor_id`` the highest id that was
    settled before the current ``generation`` of Streams began, such rows are never read again.
    """

    __tablename__ = "relay_cursors"

    name: Mapped[str] = mapped_column(primary_key=True)
    xid: Mapped[str] = mapped_column(Xid8)
    last_id: Mapped[BigInt]
    high_id: Mapped[BigInt]
    floor_id: Mapped[BigInt]
    generation: Mapped[int]
    updated_at: Mapped[Instant]


class LeaderLease(Base):
    """Who leads a duty that only one process may do, until when; ``epoch`` fences a late leader."""

    __tablename__ = "leader_leases"

    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    epoch: Mapped[BigInt]
    expires_at: Mapped[Instant]


class OutboxFailure(Base):
    """Tries to publish one event that failed: ``retry_count`` of them in all, of which ``refusals``
    were the event's own fault and not an outage (D-09). The row goes when the event is published."""

    __tablename__ = "outbox_failures"

    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    retry_count: Mapped[int]
    refusals: Mapped[int]
    last_error: Mapped[str]
    next_try_at: Mapped[Instant]


class EventDeadLetter(Base):
    """An event nobody could take, kept with its envelope and the reason.

    ``consumer_group`` gave it up at its Stream entry ``entry_id``, one letter for each; both are null where the
    relay could not publish it. ``event_id`` is null for an entry that was no event.
    """

    __tablename__ = "event_dead_letters"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    event_id: Mapped[UUID | None]
    original_subject: Mapped[str]
    failure_reason: Mapped[str]
    deliveries: Mapped[int]
    envelope: Mapped[Json]
    dlq_timestamp: Mapped[Instant] = mapped_column(server_default=text("now()"))
    consumer_group: Mapped[str | None]
    entry_id: Mapped[str | None]
    requeued_at: Mapped[Instant | None]

    __table_args__ = (
        Index("ix_event_dead_letters_dlq_timestamp", "dlq_timestamp"),
        Index(
            "uq_event_dead_letters_entry",
            "consumer_group",
            "entry_id",
            unique=True,
            postgresql_where=text("consumer_group IS NOT NULL"),
        ),
    )
