"""Table ``audit_events``: append-only record of every change (rows I-03, I-04).

Partitioned by month of ``timestamp``. No foreign key: it outlives the sessions it speaks of.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Instant, Json


class AuditEvent(Base):
    """One fact: who did what to which resource, when."""

    __tablename__ = "audit_events"

    event_id: Mapped[UUID] = mapped_column(primary_key=True)
    timestamp: Mapped[Instant] = mapped_column(primary_key=True)
    session_id: Mapped[UUID | None]
    event_type: Mapped[str]
    actor: Mapped[str | None]
    action: Mapped[str]
    resource: Mapped[str]
    metadata_: Mapped[Json] = mapped_column("metadata")

    __table_args__ = (
        Index("ix_audit_events_session_id_timestamp", "session_id", "timestamp"),
        Index("ix_audit_events_event_type_timestamp", "event_type", "timestamp"),
        Index("ix_audit_events_actor_timestamp", "actor", "timestamp"),
        Index("ix_audit_events_resource_timestamp", "resource", "timestamp"),
        Index("ix_audit_events_timestamp", "timestamp"),
        Index("ix_audit_events_metadata", "metadata", postgresql_using="gin"),
        {"postgresql_partition_by": 'RANGE ("timestamp")'},
    )
