"""Short ways to ask a fleet about sessions, one call or many at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from celery import Celery
from sqlalchemy import text

from sessionfleet.errors import FleetError
from tests.support.running import RunningFleet

Document = dict[str, Any]
Call = tuple[str, Mapping[str, Any]]

_STORED = text("""
    SELECT to_jsonb(s) AS row,
        (SELECT count(*) FROM session_events WHERE session_id = s.id) AS events,
        (SELECT count(*) FROM session_transitions WHERE session_id = s.id) AS transitions,
        (SELECT count(*) FROM session_output WHERE session_id = s.id) AS chunks,
        (SELECT count(*) FROM audit_events WHERE session_id = s.id) AS audited
    FROM sessions AS s WHERE s.id = CAST(:id AS uuid)
""")


@contextmanager
def plain_producer(fleet: RunningFleet) -> Iterator[Celery]:
    """A service without our client: a plain Celery app, which chooses its task ids itself."""
    urls = {"broker": fleet.settings.broker_url, "backend": fleet.settings.result_url}
    with Celery("elsewhere", set_as_current=False, **urls) as app:
        yield app


def new(fleet: RunningFleet, **arguments: Any) -> Document:
    """A new session's document; active unless ``status`` says otherwise."""
    document: Document = fleet.call("session.create", **{"status": "active", **arguments})
    return document


def get(fleet: RunningFleet, session_id: str, **arguments: Any) -> Document:
    """What session.get answers."""
    document: Document = fleet.call("session.get", session_id=session_id, **arguments)
    return document


def refresh(fleet: RunningFleet, session_id: str) -> Document:
    """The document as PostgreSQL has it: the cached one is dropped first."""
    fleet.cache.delete(f"sess:doc:{session_id}")
    return get(fleet, session_id)


def events(fleet: RunningFleet, session_id: str, *types: str) -> list[Document]:
    """All events of a session, or those of some names, in order."""
    found = fleet.client.iterate("session.get_events", session_id=session_id, types=list(types) or None, limit=1000)
    return list(found)


def event_names(fleet: RunningFleet, session_id: str) -> list[str]:
    """The names of all events of a session in order."""
    return [event["event_name"] for event in events(fleet, session_id)]


def together(fleet: RunningFleet, calls: Iterable[Call], timeout: float = 60) -> list[Any]:
    """Sends all calls before it waits for one; answers or typed errors in their order."""
    handles = [fleet.client.submit(name, **arguments) for name, arguments in calls]
    outcomes: list[Any] = []
    for handle in handles:
        try:
            outcomes.append(handle.result(timeout))
        except FleetError as error:
            outcomes.append(error)
    return outcomes


def codes(outcomes: Iterable[Any]) -> list[str]:
    """The word ok for an answer, the code for a typed error."""
    return [outcome.code if isinstance(outcome, FleetError) else "ok" for outcome in outcomes]


def stored(fleet: RunningFleet, session_id: str) -> Mapping[str, Any]:
    """All that PostgreSQL holds of a session: its row and how many rows hang on it. Equal before and after
    means that nothing was written."""
    with fleet.engine.connect() as db:
        return dict(db.execute(_STORED, {"id": session_id}).one()._mapping)
