"""A session's max_events: the Stream rolls, or the eleventh event is refused (row D-16)."""

from __future__ import annotations

import pytest

from sessionfleet.errors import EventLimit
from tests.integration.fanout.conftest import MakeFleet
from tests.support.outbox import LocalWorker


def test_event_eleven_of_ten_is_refused(make_fleet: MakeFleet) -> None:
    """AT-D9, first part [D-16]: and nothing is written; the session itself goes on to its end."""
    worker = LocalWorker(make_fleet(FLEET_EVENT_LIMIT_POLICY="reject"))
    session_id = worker.create(status="active", max_events=10)
    assert [worker.emit(session_id) for _ in range(8)] == list(range(3, 11))
    with pytest.raises(EventLimit) as refused:
        worker.emit(session_id)
    assert refused.value.details == {"session_id": session_id, "limit": 10}
    assert worker.call("session.get_events", session_id=session_id)["last_seq"] == 10
    worker.call("session.complete", session_id=session_id)
    assert worker.call("session.get_events", session_id=session_id, limit=1000)["last_seq"] == 11
    worker.close()


def test_by_default_the_log_goes_on(worker: LocalWorker) -> None:
    """D-16: PostgreSQL keeps every event; what the Stream keeps is tested with the publisher."""
    session_id = worker.create(status="active", max_events=10)
    for _ in range(12):
        worker.emit(session_id)
    assert worker.call("session.get_events", session_id=session_id)["last_seq"] == 14
