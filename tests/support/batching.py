"""Messages that wait together, so that a worker takes them together (``broker/collecting.py``)."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import text

from sessionfleet import Handle
from sessionfleet.errors import FleetError
from tests.support.asking import Call
from tests.support.running import RunningFleet

QUICK = 12
"""Fetches of one operation after which a worker has forgotten a slow one: the pace it keeps halves each time."""

_TRANSACTIONS = text("SELECT task_id, xid::text FROM session_events WHERE task_id = ANY (:tasks)")


@contextmanager
def held(fleet: RunningFleet) -> Iterator[None]:
    """The only sessions worker stands still: what is sent in the block is there when it goes on.

    It has been given quick operations before, so it fetches as much as it may. The block must be shorter than the
    8 seconds after which others take a silent worker for dead.
    """
    [worker] = fleet.of("sessions")
    session_id = fleet.call("session.create")["id"]
    for _ in range(QUICK):
        fleet.call("session.touch", session_id=session_id)
    worker.kill(signal.SIGSTOP)
    try:
        yield
    finally:
        worker.kill(signal.SIGCONT)


def outcomes(handles: Iterable[Handle], timeout: float = 60) -> list[Any]:
    """Answers or typed errors, in their order."""
    found: list[Any] = []
    for handle in handles:
        try:
            found.append(handle.result(timeout))
        except FleetError as error:
            found.append(error)
    return found


def at_once(fleet: RunningFleet, calls: Iterable[Call]) -> tuple[list[Handle], list[Any]]:
    """Sends ``calls`` to a worker that stands still and lets it go: handles and their outcomes, in order."""
    with held(fleet):
        handles = fleet.client.submit_many(calls)
    return handles, outcomes(handles)


def transactions(fleet: RunningFleet, handles: Sequence[Handle]) -> dict[str, str]:
    """Task id -> transaction in which its events were written; tasks without events are not there."""
    with fleet.engine.connect() as db:
        return {
            row.task_id: row.xid for row in db.execute(_TRANSACTIONS, {"tasks": [one.task_id for one in handles]})
        }
