"""Tables ``schedule_executions`` and ``schedule_attempts``: the tick ledger (rows H-06, H-08, H-10, H-13).

One execution per slot: unique (schedule_id, nominal_utc, kind), whatever becomes of it. A queued row
is its own outbox: ``publish_at`` says when its message is to be sent (again), ``not_before`` when it
may start. A running row belongs to its ``attempt`` until ``lease_expires_at``; ``stop`` says that a
later slot wants it to end (H-09).
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Double, ForeignKey, Index, SmallInteger, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, Instant


class ScheduleExecution(Base):
    """One slot of a schedule, or one run that was asked for."""

    __tablename__ = "schedule_executions"

    execution_id: Mapped[str] = mapped_column(primary_key=True)
    schedule_id: Mapped[str] = mapped_column(
        ForeignKey("scheduled_reviews.schedule_id", name="fk_schedule_executions_schedule_id")
    )
    kind: Mapped[str]
    nominal_utc: Mapped[Instant]
    status: Mapped[str]
    reason: Mapped[str | None]
    priority: Mapped[str]
    attempt: Mapped[int] = mapped_column(SmallInteger)
    queued_at: Mapped[Instant]
    not_before: Mapped[Instant | None]
    publish_at: Mapped[Instant | None]
    publishes: Mapped[int] = mapped_column(SmallInteger)
    lease_expires_at: Mapped[Instant | None]
    started_at: Mapped[Instant | None]
    ended_at: Mapped[Instant | None]
    session_id: Mapped[UUID | None]
    error_message: Mapped[str | None]
    stop: Mapped[str | None]
    accounts_processed: Mapped[int | None]
    duration_seconds: Mapped[float | None] = mapped_column(Double)
    result: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))

    __table_args__ = (
        CheckConstraint("kind IN ('scheduled', 'on_demand', 'backfill')", name="kind"),
        CheckConstraint("status IN ('queued', 'running', 'success', 'failed', 'skipped')", name="status"),
        CheckConstraint("(status = 'skipped') = (reason IS NOT NULL)", name="reason"),
        CheckConstraint("(status = 'queued') = (publish_at IS NOT NULL)", name="publish_at"),
        CheckConstraint("stop IN ('cancel', 'terminate')", name="stop"),
        CheckConstraint("(status = 'running') = (lease_expires_at IS NOT NULL)", name="lease_expires_at"),
        Index("uq_schedule_executions_slot", "schedule_id", "nominal_utc", "kind", unique=True),
        Index(
            "ix_schedule_executions_active",
            "schedule_id",
            postgresql_where=text("status IN ('queued', 'running')"),
        ),
        Index("ix_schedule_executions_queued_at", "queued_at", postgresql_using="brin"),
        Index(
            "ix_schedule_executions_stop",
            "execution_id",
            postgresql_where=text("status = 'running' AND stop = 'terminate'"),
        ),
        Index("ix_schedule_executions_publish_at", "publish_at", postgresql_where=text("publish_at IS NOT NULL")),
        Index(
            "ix_schedule_executions_lease_expires_at",
            "lease_expires_at",
            postgresql_where=text("lease_expires_at IS NOT NULL"),
        ),
    )


class ScheduleAttempt(Base):
    """One try of an execution; ``attempt`` counts from 1. A try whose worker was lost ends as failed."""

    __tablename__ = "schedule_attempts"

    execution_id: Mapped[str] = mapped_column(
        ForeignKey("schedule_executions.execution_id", name="fk_schedule_attempts_execution_id"), primary_key=True
    )
    attempt: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    status: Mapped[str]
    started_at: Mapped[Instant]
    ended_at: Mapped[Instant | None]
    session_id: Mapped[UUID | None]
    error_message: Mapped[str | None]

    __table_args__ = (CheckConstraint("status IN ('running', 'success', 'failed')", name="status"),)
