"""Which run of an owner starts next, and when (rows H-09, H-16, E-14).

A message about a run is a poke for its owner: whoever takes it starts the best run that waits, which may be
another one. Best is the highest priority, one step higher for each minute it has waited, then the earliest
start. A slot waits for runs of its schedule that are under way or come before it, unless these may overlap.
A place is taken by a schedule: runs that may overlap share that of their schedule.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from reviews.store.executions import Message
from sessionfleet.words import PRIORITIES

AGEING = 60
"""Seconds of waiting that raise a run by one priority."""

_LOOK = text("""
    SELECT s.owner_id, e.status = 'queued' AS queued, extract(epoch FROM e.not_before - clock_timestamp()) AS wait,
           pg_advisory_xact_lock(hashtextextended('owner_runs:' || s.owner_id, 0))
    FROM schedule_executions e JOIN scheduled_reviews s USING (schedule_id)
    WHERE e.execution_id = :execution_id
""")
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('owner_runs:' || :owner_id, 0))")

# How many schedules of the owner have runs under way.
_UNDER_WAY = """
    SELECT count(DISTINCT r.schedule_id)
    FROM schedule_executions r JOIN scheduled_reviews rs USING (schedule_id)
    WHERE rs.owner_id = :owner_id AND r.status = 'running'
"""
_BESIDE = "o.schedule_id = e.schedule_id AND o.execution_id <> e.execution_id AND o.kind <> 'backfill'"
_RANK = f"array_position(ARRAY[{', '.join(repr(name) for name in PRIORITIES)}], e.priority)"

# The runs that may start, best first.
_WAITING = f"""
    SELECT e.execution_id
    FROM schedule_executions e JOIN scheduled_reviews s USING (schedule_id)
    WHERE s.owner_id = :owner_id AND e.status = 'queued' AND e.not_before <= clock_timestamp()
      AND (e.kind <> 'scheduled' OR s.overlap = 'allow_all' OR NOT EXISTS (
        SELECT 1 FROM schedule_executions o WHERE {_BESIDE}
          AND (o.status = 'running' OR (o.status = 'queued' AND o.nominal_utc < e.nominal_utc))))
      AND (({_UNDER_WAY}) < :parallelism OR (e.kind = 'scheduled' AND s.overlap = 'allow_all' AND EXISTS (
        SELECT 1 FROM schedule_executions o WHERE {_BESIDE} AND o.status = 'running')))
    ORDER BY greatest({_RANK} - floor(extract(epoch FROM clock_timestamp() - e.not_before) / {AGEING}), 1),
        e.not_before, e.nominal_utc, e.execution_id
"""  # noqa: S608 - put together from constants
_CHOOSE = text(f"""
    SELECT execution_id FROM (
        SELECT execution_id, 0 AS place FROM schedule_executions
        WHERE execution_id = :execution_id AND kind = 'on_demand' AND status = 'queued'
          AND not_before <= clock_timestamp()
        UNION ALL (SELECT execution_id, 1 FROM ({_WAITING} LIMIT 1) best)
    ) either ORDER BY place LIMIT 1
""")  # noqa: S608
_NEXT = text(f"""
    UPDATE schedule_executions SET publish_at = clock_timestamp() + make_interval(secs => :within)
    WHERE status = 'queued' AND execution_id IN ({_WAITING} LIMIT greatest(:parallelism - ({_UNDER_WAY}), 1))
    RETURNING execution_id, priority
""")  # noqa: S608


@dataclass(frozen=True, slots=True)
class Looked:
    """Whose run it is, whether it waits, and for how many seconds its start has yet to come."""

    owner_id: str
    queued: bool
    wait: float


def look(db: Connection, execution_id: str) -> Looked | None:
    """The run of a message; claims of its owner's runs wait for each other from here on. None: unknown."""
    row = db.execute(_LOOK, {"execution_id": execution_id}).first()
    return None if row is None else Looked(row.owner_id, row.queued, float(row.wait or 0))


def choose(db: Connection, owner_id: str, execution_id: str, parallelism: int) -> str | None:
    """The execution to start now: the asked one if it is on demand, else the owner's best."""
    values = {"owner_id": owner_id, "execution_id": execution_id, "parallelism": parallelism}
    chosen: str | None = db.execute(_CHOOSE, values).scalar()
    return chosen


def next_ones(db: Connection, owner_id: str, parallelism: int, within: float) -> list[Message]:
    """The owner's runs that could start now, one for each free place, after one has ended or begun in this
    transaction; the outbox sends them ``within`` seconds should the caller not live to do it. A claim that
    still saw the ended run has left its own on the ledger for this to find, because both lock the owner."""
    db.execute(_LOCK, {"owner_id": owner_id})
    rows = db.execute(_NEXT, {"owner_id": owner_id, "parallelism": parallelism, "within": within})
    return [Message(row.execution_id, row.priority, None) for row in rows]


# From the runs that wait, not from the schedules: of those there may be very many.
_WANTED = """
    WITH wanted AS MATERIALIZED (
        SELECT new.schedule_id, s.overlap, max(new.nominal_utc) AS nominal_utc
        FROM schedule_executions new JOIN scheduled_reviews s USING (schedule_id)
        WHERE new.status = 'queued' AND new.kind = 'scheduled' AND new.not_before <= statement_timestamp()
          AND s.overlap IN ('cancel_other', 'terminate_other')
        GROUP BY new.schedule_id, s.overlap
    )
"""
_IN_THE_WAY = (
    "old.schedule_id = wanted.schedule_id AND old.nominal_utc < wanted.nominal_utc AND old.kind <> 'backfill'"
)
_STOP_OTHERS = text(f"""{_WANTED}
    UPDATE schedule_executions old
    SET stop = CASE wanted.overlap WHEN 'terminate_other' THEN 'terminate' ELSE 'cancel' END
    FROM wanted WHERE {_IN_THE_WAY} AND old.status = 'running' AND old.stop IS NULL
""")  # noqa: S608 - put together from constants
_DROP_OTHERS = text(f"""{_WANTED}
    UPDATE schedule_executions old
    SET status = CASE old.attempt WHEN 0 THEN 'skipped' ELSE 'failed' END,
        reason = CASE old.attempt WHEN 0 THEN 'overlap' END,
        publish_at = NULL, ended_at = clock_timestamp()
    FROM wanted WHERE {_IN_THE_WAY} AND old.status = 'queued'
""")  # noqa: S608


def stop_others(db: Connection) -> int:
    """Under cancel_other and terminate_other: runs that wait become skipped when a later slot is due, or
    failed when they were tried before, and those under way are told to end. How many."""
    return db.execute(_DROP_OTHERS).rowcount + db.execute(_STOP_OTHERS).rowcount
