"""Several worker processes at one row at the same time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, text

from sessionfleet.errors import FleetError
from tests.support.running import RunningFleet
from tests.support.waiting import eventually

Message = tuple[str, Mapping[str, Any]]

_WAITING = text("""
    SELECT count(DISTINCT pid) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
""")


def at_least(fleet: RunningFleet, count: int) -> None:
    """Starts sessions workers until ``count`` run; they stay, other tests may use them."""
    started = [fleet.start("sessions", wait=False) for _ in range(count - len(fleet.of("sessions")))]
    for process in started:
        fleet.ready(process)


def hold(db: Connection, session_id: str) -> None:
    """Takes the row of a session. A worker that is sent one of its operations waits for it for a second, then it
    keeps the message and goes on with others (:mod:`broker.waiting`)."""
    db.execute(text("SELECT FROM sessions WHERE id = :id FOR UPDATE"), {"id": session_id})


def hold_answers(db: Connection) -> None:
    """Lets nobody store an answer: every write stops in the middle of its transaction, with its rows locked."""
    db.execute(text("LOCK TABLE idempotency_keys IN SHARE MODE"))


def wait_for_workers(fleet: RunningFleet, count: int) -> None:
    """Until that many connections wait for a lock in the fleet's database."""

    def waiting() -> bool:
        with fleet.engine.connect() as db:
            return int(db.execute(_WAITING).scalar_one()) >= count

    eventually(waiting)


def at_once(fleet: RunningFleet, session_id: str, messages: Iterable[Message], workers: int = 4) -> list[Any]:
    """Answers, or typed errors, of ``messages`` on one session, in their order.

    All rows are held until ``workers`` processes stand in line for them, each with a message of its own; from then on
    they race. One after the other, since what is sent at once would be taken together. It is the table that is
    locked: for that they wait longer than for a row.
    """
    at_least(fleet, workers)
    handles = []
    with fleet.engine.begin() as db:
        db.execute(text("LOCK TABLE sessions IN EXCLUSIVE MODE"))
        for number, (name, arguments) in enumerate(messages, 1):
            handles.append(fleet.client.submit(name, session_id=session_id, **arguments))
            wait_for_workers(fleet, min(number, workers))
    return [_outcome(handle) for handle in handles]


def _outcome(handle: Any) -> Any:
    try:
        return handle.result(60)
    except FleetError as error:
        return error
