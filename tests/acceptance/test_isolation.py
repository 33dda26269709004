"""Sessions share nothing, and no process remembers one (rows A-12, A-18, A-19)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessionfleet.errors import Unavailable
from tests.support import RunningFleet, eventually
from tests.support.asking import codes, events, get, new, stored, together
from tests.support.private import PrivateFleet

WRITES: list[tuple[str, Any]] = [
    ("session.update", lambda mark: {"context": {mark: mark}}),
    ("session.update", lambda mark: {"mode": "append", "metadata": {"marks": [mark]}}),
    ("session.update_context", lambda mark: {"account_ids": {"add": [mark]}}),
    ("session.update_metrics", lambda mark: {"metrics": {mark: 1}}),
    ("session.append_output", lambda mark: {"content": f"{mark}\n"}),
    ("session.emit_event", lambda mark: {"type": "marked", "payload": {"mark": mark}, "actor": mark}),
    ("session.set_status", lambda mark: {"status": "idle", "reason": mark}),
]


def test_no_mark_of_one_session_is_seen_in_another(fleet: RunningFleet) -> None:
    """AT-A10 [A-19]: 1-20 sessions, 1-10 parallel writes each, all in flight at once."""

    @settings(max_examples=6)
    @given(st.lists(st.lists(st.sampled_from(range(len(WRITES))), min_size=1, max_size=10), min_size=1, max_size=20))
    def isolated(plans: list[list[int]]) -> None:
        documents = together(
            fleet, [("session.create", {"status": "active", "query": f"<{n}>"}) for n in range(len(plans))]
        )
        ids = [document["id"] for document in documents]
        calls = []
        for number, plan in enumerate(plans):
            for step, which in enumerate(plan):
                name, arguments = WRITES[which]
                calls.append((name, {"session_id": ids[number], **arguments(f"<{number}.{step}>")}))
        assert set(codes(together(fleet, calls))) == {"ok"}
        for number, plan in enumerate(plans):
            everything = json.dumps(
                [
                    get(fleet, ids[number]),
                    events(fleet, ids[number]),
                    fleet.call("session.read_output", session_id=ids[number]),
                    fleet.call("session.history", session_id=ids[number]),
                ]
            )
            for other in range(len(plans)):
                assert (f"<{other}>" in everything) == (other == number)
                for step in range(len(plans[other])):
                    # A second move to idle changes nothing, so its mark may be nowhere.
                    if other != number:
                        assert f"<{other}.{step}>" not in everything
            moved_once = sum(WRITES[which][0] != "session.set_status" for which in plan)
            assert sum(f"<{number}.{step}>" in everything for step in range(len(plan))) >= moved_once

    isolated()


def test_ending_sessions_leaves_the_others_alone(fleet: RunningFleet) -> None:
    """A-19: terminate, expire, delete and a run of the duties change no other session."""
    bystanders = [new(fleet, context={"n": n}, tags=["x"])["id"] for n in range(3)]
    before = [stored(fleet, session_id) for session_id in bystanders]
    victims = [new(fleet, context={"n": 9}, tags=["x"])["id"] for _ in range(3)]
    calls = [
        (f"session.{verb}", {"session_id": session_id})
        for verb, session_id in zip(("terminate", "expire", "delete"), victims, strict=True)
    ]
    assert set(codes(together(fleet, calls))) == {"ok"}
    fleet.call("maintenance.cleanup_stale", timeout=60)
    fleet.call("maintenance.purge_old", timeout=60)
    assert [stored(fleet, session_id) for session_id in bystanders] == before


def test_everything_is_there_after_workers_and_redis_are_gone(private_fleet: PrivateFleet) -> None:
    """AT-A9, AT-A8 [A-18, invariant 1]: 20 sessions unchanged through one worker that never saw them."""
    fleet = private_fleet(sessions=2)
    creates = [
        ("session.create", {"user_id": f"user-{n}", "external_id": f"e-{n}", "context": {"n": n}, "status": "active"})
        for n in range(20)
    ]
    ids = [document["id"] for document in together(fleet, creates)]
    calls: list[Any] = [("session.append_output", {"session_id": i, "content": f"out of {i}\n"}) for i in ids]
    calls += [("session.update_metrics", {"session_id": i, "metrics": {"api_call_count": 2}}) for i in ids]
    calls += [("session.complete", {"session_id": i}) for i in ids[:5]]
    assert set(codes(together(fleet, calls))) == {"ok"}

    def everything() -> list[Any]:
        return [
            [
                get(fleet, f"e-{n}"),
                fleet.call("session.read_output", session_id=i),
                fleet.call("session.get_by_user", user_id=f"user-{n}"),
                fleet.call("session.history", session_id=i),
                events(fleet, i),
            ]
            for n, i in enumerate(ids)
        ]

    before = everything()
    valkey = fleet.servers.valkey
    assert valkey is not None
    for process in fleet.processes:
        process.kill(9)
        process.wait(10)
    with valkey.client() as redis:
        redis.flushall()
    fleet.start("sessions")

    assert everything() == before
    assert before[7][0]["metrics"] == {"api_call_count": 2}
    paused = together(fleet, [("session.pause", {"session_id": session_id}) for session_id in ids[5:]])
    assert {document["status"] for document in paused} == {"paused"}


def test_without_postgresql_every_operation_says_so(private_fleet: PrivateFleet) -> None:
    """AT-A5, second part [A-12]: E:UNAVAILABLE, never an empty answer or "not found"; then it goes on."""
    fleet = private_fleet(relay=0, maintenance=1)
    session_id = new(fleet)["id"]
    postgres = fleet.servers.postgres
    assert postgres is not None
    postgres.stop()
    fleet.cache.flushdb()

    for name, arguments in [
        ("session.get", {"session_id": session_id}),
        ("session.get", {"session_id": "nobody"}),
        ("session.update", {"session_id": session_id, "context": {"a": 1}}),
        ("session.read_output", {"session_id": session_id}),
        ("session.create", {}),
        ("session.list", {}),
        ("session.delete_by_user", {"user_id": "u"}),
        ("maintenance.cleanup_stale", {}),
    ]:
        with pytest.raises(Unavailable) as refused:
            fleet.call(name, **arguments)
        assert refused.value.retryable, name
        assert (refused.value.http_status, refused.value.details["service"]) == (503, "PostgreSQL")
        password = fleet.settings.database_url.split(":")[2].split("@")[0]
        assert password not in json.dumps(refused.value.shape())

    postgres.start()
    eventually(lambda: get(fleet, session_id)["context"] == {})
    assert fleet.call("session.update", session_id=session_id, context={"a": 1})["context"] == {"a": 1}
