"""Reading sessions through real workers (rows Q-01..Q-04, Q-06)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from fanout.keys import document_key, external_key
from sessionfleet.errors import ValidationFailed
from sessionfleet.words import LIVE, STATUSES
from tests.support import RunningFleet, eventually
from tests.support.asking import Document, codes, events, get, new, refresh, stored, together

COPIES = text("""
    INSERT INTO sessions
    SELECT (jsonb_populate_record(s, jsonb_build_object(
        'id', gen_random_uuid(),
        'external_id', s.id || '-' || n,
        'created_at', s.created_at - n * interval '1 microsecond'
    ))).*
    FROM sessions AS s, generate_series(1, :count) AS n WHERE s.id = CAST(:id AS uuid)
""")


def listed(fleet: RunningFleet, **filters: Any) -> list[str]:
    """Ids of the first page, newest first."""
    return [item["id"] for item in fleet.call("session.list", **filters)["items"]]


@pytest.fixture
def crowd(fleet: RunningFleet) -> Iterator[Callable[[int], Document]]:
    """Makes so many sessions of one agent by copying rows, which takes seconds where messages take minutes;
    answers the newest. They go with the test."""
    agents: list[str] = []

    def make(count: int) -> Document:
        agents.append(str(uuid4()))
        newest = new(fleet, agent_id=agents[-1])
        with fleet.engine.begin() as db:
            db.execute(COPIES, {"id": newest["id"], "count": count - 1})
        return newest

    yield make
    with fleet.engine.begin() as db:
        db.execute(text("DELETE FROM sessions WHERE agent_id = ANY (:agents)"), {"agents": agents})


def test_get_by_either_id_from_cache_and_from_the_table(fleet: RunningFleet) -> None:
    """AT-Q5 [Q-01 B-10]: one shape; with the last 50 events and the checkpoint."""
    session = new(fleet, external_id=f"x-{uuid4()}", checkpoint={"step": 1})
    by = (session["id"], session["external_id"])
    cached = [get(fleet, key) for key in by]
    tables = []
    for key in by:
        fleet.cache.delete(document_key(session["id"]), external_key(session["external_id"]))
        tables.append(get(fleet, key))
    assert all(document == cached[0] for document in cached + tables)
    assert session == {**cached[0], "changed": True, "updates": []}

    for number in range(60):
        fleet.client.send("session.emit_event", session_id=session["id"], type=f"e{number}", reset_ttl=False)
    fleet.call("session.touch", session_id=session["id"])
    eventually(lambda: len(events(fleet, session["id"])) == 62)
    whole = get(fleet, session["external_id"], include=["events", "checkpoint"])
    assert whole["events"] == events(fleet, session["id"])[-50:]
    assert whole["checkpoint"] == {"step": 1}


def test_a_read_changes_nothing(fleet: RunningFleet) -> None:
    """Q-01, E-02: not even the deadline."""
    session_id = new(fleet, user_id="reader")["id"]
    before = stored(fleet, session_id)
    refresh(fleet, session_id)
    calls = [
        (f"session.{name}", {"session_id": session_id}) for name in ("get", "history", "read_output", "get_events")
    ]
    calls += [("session.list", {}), ("session.count", {}), ("session.get_by_user", {"user_id": "reader"})]
    assert set(codes(together(fleet, calls))) == {"ok"}
    assert stored(fleet, session_id) == before


FILTERS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"session_type": "batch"}, {"session_type": "batch"}),
    ({"user_id": "u-7"}, {"user_id": "u-7"}),
    ({"owner_id": "o-7"}, {"owner_id": "o-7"}),
    ({"orchestrator_id": "orch-7"}, {"orchestrator_id": "orch-7"}),
    ({"conversation_id": "c-7"}, {"conversation_id": "c-7"}),
    ({"tags": ["t-7", "other"]}, {"tag": "t-7"}),
    ({"account_ids": ["a-7", "other"]}, {"account_id": "a-7"}),
    ({"priority": "critical"}, {"priority": "critical"}),
    ({"work_state": "broken"}, {"work_state": "broken"}),
    ({"metadata": {"team": {"name": "x", "size": 3}}}, {"metadata": {"team": {"name": "x"}}}),
    ({"context": {"deep": {"list": [1, 2]}}}, {"context": {"deep": {"list": [2]}}}),
]


@pytest.mark.parametrize(("given", "filters"), FILTERS, ids=[next(iter(filters)) for _, filters in FILTERS])
def test_each_filter_finds_its_sessions_and_no_others(
    fleet: RunningFleet, given: dict[str, Any], filters: dict[str, Any]
) -> None:
    """AT-Q1, first part [Q-02]: newest first, together with another filter."""
    agent_id = str(uuid4())
    first, _, second = [new(fleet, agent_id=agent_id, **more)["id"] for more in (given, {}, given)]
    assert listed(fleet, agent_id=agent_id, **filters) == [second, first]
    assert fleet.call("session.count", agent_id=agent_id, **filters)["total"] == 2


def test_filters_by_status_ranges_and_need_of_recovery(fleet: RunningFleet) -> None:
    """Q-02, Q-03: one status or several; created, updated and active ranges; counts per status."""
    agent_id = str(uuid4())
    documents = [new(fleet, agent_id=agent_id) for _ in range(3)]
    ids = [document["id"] for document in documents]
    fleet.call("session.pause", session_id=ids[0])
    fleet.call("session.crash", session_id=ids[1])
    mine: dict[str, Any] = {"agent_id": agent_id}

    assert listed(fleet, **mine, status="paused") == [ids[0]]
    assert listed(fleet, **mine, status=["paused", "active"]) == [ids[2], ids[0]]
    assert listed(fleet, **mine, recovery_needed=True) == [ids[1]]
    assert listed(fleet, **mine, created_after=documents[1]["created_at"]) == [ids[2], ids[1]]
    assert listed(fleet, **mine, created_before=documents[1]["created_at"]) == [ids[0]]
    paused_at = get(fleet, ids[0])["updated_at"]
    assert listed(fleet, **mine, updated_after=paused_at) == [ids[1], ids[0]]
    assert listed(fleet, **mine, active_before=paused_at) == [ids[2]]
    counted = fleet.call("session.count", **mine)
    assert counted["total"] == 3
    assert counted["by_status"] == dict.fromkeys(STATUSES, 0) | {"active": 1, "paused": 1, "crashed": 1}


@pytest.mark.parametrize("limit", [-1, 0, 1001, "many"])
def test_a_limit_out_of_bounds_is_refused(fleet: RunningFleet, limit: Any) -> None:
    """AT-Q1, second part [Q-02]."""
    for name in ("session.list", "session.list_active"):
        with pytest.raises(ValidationFailed) as refused:
            fleet.call(name, limit=limit)
        assert refused.value.details["fields"][0]["field"] == "limit"


def test_a_cursor_of_somebody_else_is_refused(fleet: RunningFleet) -> None:
    """Q-03: opaque, but checked."""
    for cursor in ("x", "äöü", "bm8=", "W10", "eyJhIjoxfQ"):
        with pytest.raises(ValidationFailed, match="cursor"):
            fleet.call("session.list", cursor=cursor)


def test_paging_10000_sessions_under_inserts_shows_each_once(
    fleet: RunningFleet, crowd: Callable[[int], Document]
) -> None:
    """AT-Q1, third part [Q-03]: new ones arrive and old ones change while the pages are read."""
    newest = crowd(10_000)
    agent_id = newest["agent_id"]
    assert fleet.call("session.count", agent_id=agent_id)["total"] == 10_000
    seen: list[str] = []
    for item in fleet.client.iterate("session.list", agent_id=agent_id, limit=500, timeout=60):
        seen.append(item["id"])
        if len(seen) % 500 == 1:  # a page has just come
            fleet.client.send("session.create", agent_id=agent_id)
            fleet.client.send("session.touch", session_id=item["id"])
    assert len(seen) == 10_000
    assert len(set(seen)) == 10_000
    assert seen[0] == newest["id"]


def test_a_thousand_rows_in_half_a_second(fleet: RunningFleet, crowd: Callable[[int], Document]) -> None:
    """AT-Q3, first part [Q-02 Q-06]: from call to answer, the best of up to twenty on a busy machine."""
    agent_id = crowd(1_500)["agent_id"]

    def once() -> float:
        start = time.perf_counter()
        page = fleet.call("session.list", agent_id=agent_id, limit=1000)
        assert len(page["items"]) == 1000
        assert page["next_cursor"]
        return time.perf_counter() - start

    assert any(once() < 0.5 for _ in range(20))


def test_sessions_of_a_user_and_the_newest_alone(fleet: RunningFleet) -> None:
    """Q-04: all pages name the newest; a user without sessions has none."""
    user_id = f"u-{uuid4()}"
    ids = [new(fleet, user_id=user_id)["id"] for _ in range(3)][::-1]
    whole = fleet.call("session.get_by_user", user_id=user_id)
    assert [item["id"] for item in whole["items"]] == ids
    assert whole["latest"]["id"] == ids[0]
    first = fleet.call("session.get_by_user", user_id=user_id, limit=2)
    rest = fleet.call("session.get_by_user", user_id=user_id, limit=2, cursor=first["next_cursor"])
    assert [item["id"] for item in first["items"] + rest["items"]] == ids
    assert (rest["latest"]["id"], rest["next_cursor"]) == (ids[0], None)
    assert fleet.call("session.get_by_user", user_id=f"u-{uuid4()}") == {
        "items": [],
        "next_cursor": None,
        "latest": None,
    }


def test_active_sessions_are_the_live_ones(fleet: RunningFleet) -> None:
    """Q-04: the five live statuses."""
    verbs = {"idle": "idle", "waiting_input": "wait_input", "paused": "pause", "crashed": "crash", "failed": "fail"}
    made: dict[str, Document] = {"initializing": fleet.call("session.create"), "active": new(fleet)}
    for status, verb in verbs.items():
        made[status] = fleet.call(f"session.{verb}", session_id=new(fleet)["id"])
    oldest = min(datetime.fromisoformat(document["created_at"]) for document in made.values())
    active = set()
    for item in fleet.client.iterate("session.list_active", limit=1000):
        if datetime.fromisoformat(item["created_at"]) < oldest - timedelta(seconds=1):
            break
        active.add(item["id"])
    assert {status for status, document in made.items() if document["id"] in active} == LIVE
