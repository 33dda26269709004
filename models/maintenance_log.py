"""Table ``maintenance_log``: what each run of a duty did (row J-06)."""

from __future__ import annotations

from sqlalchemy import BigInteger, Identity, Index
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Instant, Json


class MaintenanceLog(Base):
    """One run of a duty that changed something, with its exact result."""

    __tablename__ = "maintenance_log"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    duty: Mapped[str]
    started_at: Mapped[Instant]
    finished_at: Mapped[Instant]
    result: Mapped[Json]

    __table_args__ = (Index("ix_maintenance_log_duty_started_at", "duty", "started_at"),)
