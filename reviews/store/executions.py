"""Rows of the tick ledger: one per slot, and the outbox of those that are to run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import uuid4

from sqlalchemy import Connection, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from models import ScheduledReview, ScheduleExecution, table_of
from reviews.ledger import Slot
from sessionfleet.words import Priority

_t = table_of(ScheduleExecution)
_c = _t.c
_s = table_of(ScheduledReview).c

ACTIVE = ("queued", "running")

RESEND = timedelta(seconds=10)
"""A run nobody started within this is sent again, then within twice this, and so on."""

# Each time a run nobody started is sent again the wait doubles: a long queue is not made longer by copies.
_TAKE = text("""
    UPDATE schedule_executions
    SET publish_at = clock_timestamp() + make_interval(secs => :again * power(2, least(publishes, 5))),
        publishes = least(publishes + 1, 1000)
    WHERE execution_id IN (
        SELECT execution_id FROM schedule_executions
        WHERE publish_at <= coalesce(CAST(:by AS timestamptz), statement_timestamp())
        ORDER BY publish_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    RETURNING execution_id, priority, CASE WHEN not_before > clock_timestamp() THEN not_before END AS start
""")


def row_of(
    slot: Slot, schedule_id: str, priority: str, now: datetime, sent_until: datetime | None = None
) -> dict[str, Any]:
    """The ledger row of a decided slot. One that starts by ``sent_until`` counts as sent: whoever commits it sends
    its message then; should he not live to do it, the outbox does after RESEND."""
    runs = slot.reason is None
    publish_at = max(now, slot.start) if runs and slot.start else None
    sent = publish_at is not None and sent_until is not None and publish_at <= sent_until
    return {
        "execution_id": f"exec_{uuid4().hex}",
        "schedule_id": schedule_id,
        "kind": "scheduled",
        "nominal_utc": slot.nominal,
        "status": "queued" if runs else "skipped",
        "reason": slot.reason,
        "priority": priority,
        "attempt": 0,
        "queued_at": now,
        "not_before": slot.start if runs else None,
        "publish_at": publish_at + RESEND if sent and publish_at is not None else publish_at,
        "publishes": int(sent),
    }


def add(db: Connection, rows: Sequence[dict[str, Any]]) -> set[str]:
    """Insert ledger rows; the ids of those that are new. A slot that has a row keeps it."""
    if not rows:
        return set()
    statement = insert(_t).on_conflict_do_nothing(index_elements=["schedule_id", "nominal_utc", "kind"])
    return set(db.execute(statement.returning(_c.execution_id), rows).scalars())


def add_one(db: Connection, row: dict[str, Any]) -> dict[str, Any]:
    """Insert one row that must be new; the row as stored."""
    return db.execute(insert(_t).values(**row).returning(*_c)).one()._asdict()


def active(db: Connection, schedule_ids: Collection[str]) -> dict[str, int]:
    """Runs of each schedule that wait or are under way, backfilled ones aside; schedules without any are
    left out."""
    statement = select(_c.schedule_id, func.count()).group_by(_c.schedule_id)
    statement = statement.where(_c.schedule_id.in_(schedule_ids), _c.status.in_(ACTIVE), _c.kind != "backfill")
    return {row[0]: row[1] for row in db.execute(statement)}


def waiting(db: Connection, owner_ids: Collection[str]) -> dict[str, int]:
    """Runs of each owner that wait; owners without any are left out."""
    statement = select(_s.owner_id, func.count()).group_by(_s.owner_id)
    statement = statement.where(_s.schedule_id == _c.schedule_id, _s.owner_id.in_(owner_ids), _c.status == "queued")
    return {row[0]: row[1] for row in db.execute(statement)}


def slots_run(db: Connection, schedule_ids: Collection[str]) -> dict[str, int]:
    """Slots of each schedule that ran or are to run; schedules without any are left out."""
    statement = select(_c.schedule_id, func.count()).group_by(_c.schedule_id)
    statement = statement.where(_c.schedule_id.in_(schedule_ids), _c.kind == "scheduled", _c.status != "skipped")
    return {row[0]: row[1] for row in db.execute(statement)}


class Message(NamedTuple):
    """A message to send: for a run whose time has not come with its exact ``start``."""

    execution_id: str
    priority: Priority
    start: datetime | None


def message_of(row: Mapping[str, Any], now: datetime) -> Message:
    """The message of a row that :func:`row_of` counts as sent."""
    start: datetime = row["not_before"]
    return Message(row["execution_id"], row["priority"], start if start > now else None)


def to_publish(db: Connection, limit: int, by: datetime | None = None) -> list[Message]:
    """Queued runs whose message is to be sent by that instant (default: now). Once this is committed nobody sends
    them again before RESEND, so a crash between commit and send costs that time."""
    values = {"limit": limit, "again": RESEND.total_seconds(), "by": by}
    return [Message(*row) for row in db.execute(_TAKE, values)]


def drop_queued(db: Connection, schedule_id: str) -> int:
    """Runs of a deleted schedule that have not begun become skipped; how many."""
    statement = (
        update(_t)
        .where(_c.schedule_id == schedule_id, _c.status == "queued")
        .values(status="skipped", reason="deleted", publish_at=None, ended_at=func.clock_timestamp())
    )
    return db.execute(statement).rowcount
