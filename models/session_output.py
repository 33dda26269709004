"""Table ``session_output``: output chunks in order (rows C-01..C-03).

``start_bytes`` and ``start_lines`` are the session's totals before the chunk: a chunk lies inside the
buffer while its start is at most the bound behind the session's totals, so neither reading nor
trimming has to add anything up. What is inside never exceeds a bound, but the newest chunk is kept
whatever its size.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, BigInt, Instant


class SessionOutput(Base):
    """One chunk of at most 262,144 bytes; ``chunk_no`` is contiguous from 1 within its session."""

    __tablename__ = "session_output"

    session_id: Mapped[UUID] = mapped_column(primary_key=True)
    chunk_no: Mapped[BigInt] = mapped_column(primary_key=True)
    stream: Mapped[str]
    content: Mapped[str]
    bytes: Mapped[int]
    start_bytes: Mapped[BigInt]
    start_lines: Mapped[BigInt]
    created_at: Mapped[Instant]
