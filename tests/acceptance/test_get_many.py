"""session.get_many: up to 500 sessions in one read (row Q-01)."""

from __future__ import annotations

from uuid import uuid4

import pytest

from sessionfleet.errors import ValidationFailed
from tests.support import RunningFleet
from tests.support.ageing import age
from tests.support.asking import Document, get, new


def cold(fleet: RunningFleet, *sessions: Document) -> None:
    """Takes documents out of the cache."""
    fleet.cache.delete(*(f"sess:doc:{session['id']}" for session in sessions))


def many(fleet: RunningFleet, *ids: str) -> Document:
    answer: Document = fleet.call("session.get_many", session_ids=list(ids))
    return answer


def test_from_cache_and_table_by_either_id_in_the_order_asked(fleet: RunningFleet) -> None:
    one, two, three = (new(fleet, context={"n": n}) for n in range(3))
    documents = [get(fleet, session["id"]) for session in (one, two, three)]
    cold(fleet, two)
    answer = many(
        fleet, three["external_id"], "nobody", two["id"].upper(), one["id"], str(uuid4()), one["external_id"]
    )
    assert answer["items"] == documents[::-1]
    assert answer["missing"][0] == "nobody"
    assert len(answer["missing"]) == 2
    assert fleet.cache.exists(f"sess:doc:{two['id']}")
    assert many(fleet, one["id"], two["id"]) == {"items": documents[:2], "missing": [], "left": []}
    assert many(fleet, one["id"], one["id"])["items"] == documents[:1]


def test_deleted_and_overdue_sessions_read_as_they_do_alone(fleet: RunningFleet) -> None:
    """A-12, E-06."""
    gone, overdue, live = new(fleet), new(fleet), new(fleet)
    fleet.call("session.delete", session_id=gone["id"])
    age(fleet, 30 * 86400, overdue["id"])
    cold(fleet, overdue)
    answer = many(fleet, gone["id"], overdue["id"], live["id"])
    assert answer["missing"] == [gone["id"]]
    assert [one["status"] for one in answer["items"]] == ["expired", "active"]
    assert answer["items"][0] == get(fleet, overdue["id"])


def test_bounds(fleet: RunningFleet) -> None:
    sessions = [f"none-{n}" for n in range(501)]
    assert many(fleet, *sessions[:500]) == {"items": [], "missing": sessions[:500], "left": []}
    for wrong in ([], sessions, [""]):
        with pytest.raises(ValidationFailed):
            many(fleet, *wrong)
