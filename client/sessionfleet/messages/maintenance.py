"""Periodic duties on sessions (rows E-04, E-05, E-08, E-09, B-13, Q-03, Q-06, Q-07)."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from sessionfleet.messages.base import Duty


class TimeoutWarnings(Duty, name="maintenance.timeout_warnings"):
    """Warn each live session once per deadline and threshold with the real time left (E-04)."""

    answer: ClassVar[str] = "{warned: count}"


class CleanupStale(Duty, name="maintenance.cleanup_stale"):
    """Expire overdue sessions in batches of 500, re-checked under their row lock (E-05, E-08, E-09)."""

    answer: ClassVar[str] = "{expired: count}"


class IndexContexts(Duty, name="maintenance.index_contexts"):
    """Bring the index of contexts up to date, in batches of 100, but for contexts that keep changing: of sessions
    written within a minute, with another context than when this looked last. A list filtered by context is complete
    at any time: sessions whose context is not indexed are compared one by one (Q-06)."""

    answer: ClassVar[str] = "{indexed: count, changing: count}"


class SumCounts(Duty, name="maintenance.sum_counts"):
    """Sum up the changes in how many sessions have each status, of which session.count reads all (Q-03)."""

    answer: ClassVar[str] = "{summed: rows}"


class PurgeOld(Duty, name="maintenance.purge_old"):
    """Remove stored answers past idempotency_ttl, tombstones and dead letters past their 30 days, slots of
    schedules past ledger_retention_days."""

    answer: ClassVar[str] = "{idempotency_keys: count, tombstones: count, schedule_slots: count, dead_letters: count}"


class PartitionMaintain(Duty, name="maintenance.partition_maintain"):
    """Make the months ahead, finish cut detaches, detach audit months past their retention (J-01..J-04)."""

    dry_run: bool = Field(False, description="Answer what would be done and change nothing.")

    answer: ClassVar[str] = (
        "{created: [name], finalized: [name], detached: [name], postponed: [name],"
        " runway_days: {table: days}, dry_run, skipped}"
    )


class DrainOutbox(Duty, name="maintenance.drain_outbox"):
    """Publish committed events that wait while no relay leads; does nothing beside one (D-08)."""

    answer: ClassVar[str] = "{published: count, pending: count}"
