"""Schedules and their ledger as tests look at them: asked for as any caller would, aged by moving stored instants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import text

from tests.support.running import RunningFleet
from tests.support.waiting import eventually

Document = dict[str, Any]

REWIND = text("""
    UPDATE scheduled_reviews SET next_run = clock_timestamp() - make_interval(secs => :seconds)
    WHERE schedule_id = :id
""")
LEDGER = text("SELECT * FROM schedule_executions WHERE schedule_id = :id ORDER BY nominal_utc, kind")


def create(fleet: RunningFleet, owner_id: str | None = None, **arguments: Any) -> Document:
    """An interval schedule of an owner of its own, whose runs wait for no other; daily, so that nothing comes
    due by itself, unless the test says else."""
    owner_id = owner_id or f"owner-{uuid4().hex[:8]}"
    if "interval_seconds" not in arguments:
        arguments.setdefault("interval_minutes", 1440)
    created: Document = fleet.call("schedule.create", schedule_type="interval", owner_id=owner_id, **arguments)
    return created


def rewind(fleet: RunningFleet, schedule: Document, seconds: float) -> None:
    """Makes the next slot one that was due ``seconds`` ago."""
    run(fleet, REWIND.text, id=schedule["schedule_id"], seconds=seconds)


def dispatch(fleet: RunningFleet) -> dict[str, int]:
    """One tick."""
    counts: dict[str, int] = fleet.call("schedule.dispatch_due")
    return counts


def get(fleet: RunningFleet, schedule: Document) -> Document:
    found: Document = fleet.call("schedule.get", schedule_id=schedule["schedule_id"])
    return found


def history(fleet: RunningFleet, schedule: Document, **arguments: Any) -> list[Document]:
    """The slots of a schedule as a caller sees them, latest first."""
    items: list[Document] = fleet.call("schedule.history", schedule_id=schedule["schedule_id"], **arguments)["items"]
    return items


def ledger(fleet: RunningFleet, schedule: Document) -> Sequence[Any]:
    """The slots of a schedule as stored, oldest first."""
    with fleet.engine.connect() as db:
        return db.execute(LEDGER, {"id": schedule["schedule_id"]}).all()


def ended(fleet: RunningFleet, schedule: Document, timeout: float = 60) -> Document:
    """The latest slot of a schedule, once it has run to its end."""

    def latest() -> Document | None:
        slot = history(fleet, schedule, limit=1)[0]
        return slot if slot["status"] in ("success", "failed") else None

    return eventually(latest, timeout, every=0.1)


def run(fleet: RunningFleet, statement: str, **values: Any) -> None:
    """One statement of the database's owner."""
    with fleet.engine.begin() as db:
        db.execute(text(statement), values)


def nominal(slot: Document) -> datetime:
    return datetime.fromisoformat(slot["nominal_utc"])


def waiting(predicate: Callable[[], bool], timeout: float = 60) -> None:
    eventually(predicate, timeout, every=0.1)
