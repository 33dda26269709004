"""Table ``session_transitions``: every move of the state machine (rows A-08, A-20)."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, BigInt, Instant


class SessionTransition(Base):
    """One move; ``seq`` is that of the event it was announced by."""

    __tablename__ = "session_transitions"

    session_id: Mapped[UUID] = mapped_column(primary_key=True)
    seq: Mapped[BigInt] = mapped_column(primary_key=True)
    from_status: Mapped[str | None]
    to_status: Mapped[str]
    reason: Mapped[str | None]
    actor: Mapped[str | None]
    task_id: Mapped[str | None]
    at: Mapped[Instant]
