"""Table ``idempotency_keys``: the stored answer of every write (row B-13)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Instant


class IdempotencyKey(Base):
    """First use of a key: which task, the hash of its body, what it answered (as text: nobody looks into it)."""

    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(primary_key=True)
    operation: Mapped[str]
    task_id: Mapped[str]
    body_hash: Mapped[str]
    answer: Mapped[Any] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[Instant]
    expires_at: Mapped[Instant]

    __table_args__ = (Index("ix_idempotency_keys_expires_at", "expires_at"),)
