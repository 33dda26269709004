"""Messages nobody could take, and how often one was tried: ``message_dead_letters``, ``message_deliveries``.

Not to be confused with ``event_dead_letters``, which holds events that nobody could be told (D-12).
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Identity, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, BigInt, Instant


class MessageDeadLetter(Base):
    """One message by its bytes and queue, however often it was put away. ``size`` is the full number of bytes,
    ``raw`` may be cut; ``deliveries``: how often it was delivered at the last time, at least."""

    __tablename__ = "message_dead_letters"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    digest: Mapped[str] = mapped_column(unique=True)
    queue: Mapped[str]
    task_name: Mapped[str | None]
    task_id: Mapped[str | None]
    reason: Mapped[str]
    size: Mapped[BigInt]
    raw: Mapped[bytes] = mapped_column(LargeBinary)
    deliveries: Mapped[int]
    seen: Mapped[int]
    first_seen_at: Mapped[Instant]
    last_seen_at: Mapped[Instant]
    requeued_at: Mapped[Instant | None]

    __table_args__ = (Index("ix_message_dead_letters_last_seen_at", "last_seen_at"),)


class MessageDelivery(Base):
    """How often a task message was started whose process had died of it before, or of a neighbour."""

    __tablename__ = "message_deliveries"

    task_id: Mapped[str] = mapped_column(primary_key=True)
    deliveries: Mapped[int]
    first_at: Mapped[Instant]
    last_at: Mapped[Instant]

    __table_args__ = (Index("ix_message_deliveries_last_at", "last_at"),)
