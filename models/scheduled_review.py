"""Table ``scheduled_reviews``: user schedules and where each stands (row H-01).

``next_run`` is the next slot to be settled, NULL when there is none; for an interval it is also the
anchor all other slots are counted from. ``tzdata_version`` is the release of the zone rules that gave
``next_run`` (H-05). ``version`` grows with what users change, never by firing.
``dropped`` counts slots that found the buffer of their overlap policy full (H-09).
A deleted schedule keeps its row (``deleted_at``), so that its history can still be read.
"""

from __future__ import annotations

from datetime import date
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Double, Index, Integer, SmallInteger, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from models.base import Base, BigInt, Instant, Json

SCHEDULE_TYPES = ("daily", "weekly", "biweekly", "monthly", "cron", "interval", "one_time")


class ScheduledReview(Base):
    """One schedule; fields that its type does not use are NULL or at their defaults."""

    __tablename__ = "scheduled_reviews"

    schedule_id: Mapped[str] = mapped_column(primary_key=True)
    schedule_type: Mapped[str]
    owner_id: Mapped[str]
    account_filter: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    cron_expression: Mapped[str | None]
    interval_minutes: Mapped[float | None] = mapped_column(Double)
    interval_seconds: Mapped[int | None]
    day_mode: Mapped[str | None]
    scheduled_time: Mapped[str | None]
    hour: Mapped[int] = mapped_column(SmallInteger)
    minute: Mapped[int] = mapped_column(SmallInteger)
    weekday: Mapped[int | None] = mapped_column(SmallInteger)
    day: Mapped[int | None] = mapped_column(SmallInteger)
    last_business_day: Mapped[bool]
    month_end: Mapped[str]
    anchor_date: Mapped[date | None]
    timezone: Mapped[str]
    dst_gap: Mapped[str]
    dst_overlap: Mapped[str]
    jitter_seconds: Mapped[int]
    windows: Mapped[list[str]] = mapped_column(JSONB)
    window_policy: Mapped[str]
    blackouts: Mapped[list[str]] = mapped_column(JSONB)
    end_at: Mapped[Instant | None]
    tzdata_version: Mapped[str]
    priority: Mapped[str]
    enabled: Mapped[bool]
    max_retries: Mapped[int] = mapped_column(SmallInteger)
    retry_delay_minutes: Mapped[int]
    coalesce: Mapped[str]
    overlap: Mapped[str]
    max_instances: Mapped[int] = mapped_column(SmallInteger)
    max_runs: Mapped[int | None]
    pause_after_failures: Mapped[int] = mapped_column(SmallInteger)
    failures_in_row: Mapped[int]
    handler: Mapped[str] = mapped_column(server_default="review.owner_digest")
    handler_queue: Mapped[str | None]
    handler_timeout_seconds: Mapped[int] = mapped_column(Integer, server_default="300")
    dropped: Mapped[int] = mapped_column(BigInteger, server_default="0")
    metadata_: Mapped[Json] = mapped_column("metadata")
    pause_note: Mapped[str | None]
    last_run: Mapped[Instant | None]
    last_status: Mapped[str | None]
    next_run: Mapped[Instant | None]
    run_count: Mapped[BigInt]
    version: Mapped[BigInt]
    created_at: Mapped[Instant]
    updated_at: Mapped[Instant]
    deleted_at: Mapped[Instant | None]

    __table_args__ = (
        CheckConstraint(f"schedule_type IN ({', '.join(map(repr, SCHEDULE_TYPES))})", name="schedule_type"),
        CheckConstraint("priority IN ('critical', 'high', 'medium', 'low')", name="priority"),
        CheckConstraint("deleted_at IS NULL OR next_run IS NULL", name="deleted_at"),
        # Paused schedules too: each slot of a pause becomes a row.
        Index("ix_scheduled_reviews_next_run", "next_run", postgresql_where=text("next_run IS NOT NULL")),
        Index("ix_scheduled_reviews_owner_id_created_at", "owner_id", text("created_at DESC")),
        Index("ix_scheduled_reviews_tzdata_version", "tzdata_version"),
        Index("ix_scheduled_reviews_created_at", text("created_at DESC"), text("schedule_id DESC")),
    )
