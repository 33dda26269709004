"""What no tick has looked after, and what has outlived its keep (rows H-06, H-13, N-09)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

LATE = 60
"""Seconds after which something that is due counts as left behind: many ticks, whatever their interval."""

FARTHEST = 400
"""Seconds: a run that waits is sent again sooner than this."""

_FIND = text("""
    SELECT
        (SELECT count(*) FROM scheduled_reviews
            WHERE next_run < statement_timestamp() - make_interval(secs => :late)) AS overdue,
        (SELECT count(*) FROM schedule_executions
            WHERE lease_expires_at < statement_timestamp() - make_interval(secs => :late)) AS lost,
        (SELECT count(*) FROM schedule_executions
            WHERE publish_at < statement_timestamp() - make_interval(secs => :late)) AS unsent,
        coalesce((SELECT indisvalid AND indisunique FROM pg_index
            WHERE indexrelid = to_regclass('uq_schedule_executions_slot')), false) AS slot_index
""")
_STOPPED = text("""
    SELECT * FROM scheduled_reviews
    WHERE next_run IS NULL AND deleted_at IS NULL AND schedule_type <> 'one_time'
      AND (end_at IS NULL OR end_at > statement_timestamp())
    LIMIT :limit FOR NO KEY UPDATE SKIP LOCKED
""")
_FAR = text("""
    UPDATE schedule_executions SET publish_at = clock_timestamp(), publishes = 0
    WHERE status = 'queued' AND not_before < statement_timestamp() - make_interval(secs => :far)
      AND publish_at > statement_timestamp() + make_interval(secs => :far)
""")
_TWICE = text("""
    WITH placed AS (
        SELECT execution_id, row_number() OVER (
            PARTITION BY schedule_id, nominal_utc, kind
            ORDER BY (status = 'queued'), queued_at, execution_id) AS place
        FROM schedule_executions
    )
    UPDATE schedule_executions e
    SET status = CASE e.status WHEN 'queued' THEN 'skipped' ELSE e.status END,
        reason = CASE e.status WHEN 'queued' THEN 'coalesced' ELSE e.reason END,
        publish_at = CASE e.status WHEN 'queued' THEN NULL ELSE e.publish_at END
    FROM placed WHERE placed.execution_id = e.execution_id AND placed.place > 1
""")
_PURGE = text("""
    WITH old AS (
        SELECT e.execution_id FROM schedule_executions e JOIN scheduled_reviews s USING (schedule_id)
        WHERE e.queued_at < statement_timestamp() - make_interval(days => :days)
          AND e.status NOT IN ('queued', 'running')
          AND (s.deleted_at IS NOT NULL OR e.status = 'skipped' OR (s.max_runs IS NULL AND (
            e.status <> 'success' OR EXISTS (
              SELECT 1 FROM schedule_executions later WHERE later.schedule_id = e.schedule_id
                AND later.status = 'success' AND later.nominal_utc > e.nominal_utc))))
        LIMIT :limit
    ), attempts AS (
        DELETE FROM schedule_attempts a USING old WHERE a.execution_id = old.execution_id
    )
    DELETE FROM schedule_executions e USING old WHERE e.execution_id = old.execution_id
""")
_FORGET = text("""
    DELETE FROM scheduled_reviews WHERE schedule_id IN (
        SELECT s.schedule_id FROM scheduled_reviews s
        WHERE s.deleted_at < statement_timestamp() - make_interval(days => :days)
          AND NOT EXISTS (SELECT 1 FROM schedule_executions e WHERE e.schedule_id = s.schedule_id)
        LIMIT :limit
    )
""")


def left_behind(db: Connection) -> dict[str, Any]:
    """Counts of ``overdue``, ``lost``, ``unsent``; and whether the index that keeps slots single is there."""
    return db.execute(_FIND, {"late": LATE}).one()._asdict()


def stopped(db: Connection, limit: int) -> list[dict[str, Any]]:
    """Schedules without a next slot that may have one, locked."""
    return [row._asdict() for row in db.execute(_STOPPED, {"limit": limit})]


def bring_near(db: Connection) -> int:
    """Runs that are due and would be sent only in a long while are sent now; how many."""
    return db.execute(_FAR, {"far": FARTHEST}).rowcount


def single_out(db: Connection) -> int:
    """Of several rows of one slot all but the first count as duplicates; those that wait become skipped.
    How many. Reads the whole ledger: for when the index is gone."""
    return db.execute(_TWICE).rowcount


def purge(db: Connection, days: int, limit: int) -> int:
    """Remove slots that are older, and deleted schedules that have none left; how many slots. Kept are those
    that wait or are under way, the latest success of a schedule, and what ``max_runs`` counts."""
    gone = db.execute(_PURGE, {"days": days, "limit": limit}).rowcount
    if gone < limit:
        db.execute(_FORGET, {"days": days, "limit": limit})
    return gone
