"""Table ``agents``: agents that reported themselves (rows A-16, G-08)."""

from __future__ import annotations

from sqlalchemy import CheckConstraint
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Instant, Json


class Agent(Base):
    """One agent; it is registered by its first heartbeat."""

    __tablename__ = "agents"

    agent_id: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    metadata_: Mapped[Json] = mapped_column("metadata")
    registered_at: Mapped[Instant]
    last_heartbeat: Mapped[Instant]

    __table_args__ = (CheckConstraint("status IN ('active', 'busy', 'idle', 'maintenance')", name="status"),)
