"""The cache is never wrong and never missed (AT-B7, AT-B8, AT-B9)."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fanout.keys import document_key
from sessions import queries
from sessions.document import document
from tests.conftest import PrivateFleet
from tests.support.outbox import everything_arrives
from tests.support.running import RunningFleet
from tests.support.waiting import eventually
from workers.embedded import EmbeddedValkey

Write = Callable[[RunningFleet, str, int], Any]

WRITES: tuple[Write, ...] = (
    lambda fleet, key, n: fleet.call("session.update", session_id=key, metadata={"n": n}),
    lambda fleet, key, n: fleet.call("session.update", session_id=key, query=f"question {n}"),
    lambda fleet, key, n: fleet.call("session.update_context", session_id=key, current_batch=n),
    lambda fleet, key, n: fleet.call("session.update_metrics", session_id=key, metrics={"api_call_count": 1}),
    lambda fleet, key, n: fleet.call("session.append_output", session_id=key, content=f"line {n}\n"),
    lambda fleet, key, n: fleet.call("session.emit_event", session_id=key, type="test"),
    lambda fleet, key, n: fleet.call("session.touch", session_id=key),
    lambda fleet, key, n: fleet.call("session.set_status", session_id=key, status="idle" if n % 2 else "active"),
)


def cached(fleet: RunningFleet, session_id: str) -> dict[str, Any] | None:
    raw = fleet.cache.get(document_key(session_id))
    return None if raw is None else json.loads(raw)


def stored(fleet: RunningFleet, session_id: str) -> dict[str, Any]:
    with fleet.engine.connect() as db:
        return document(queries.find(db, session_id))


def test_cache_and_row_are_equal_after_every_write(private_fleet: PrivateFleet) -> None:
    """AT-B7."""
    fleet = private_fleet(sessions=4, relay=1)
    keys = [
        fleet.call("session.create", status="active", agent_id=f"a{number}", context={"kept": number})["id"]
        for number in range(4)
    ]

    def write(number: int) -> None:
        chosen = random.Random(number)
        for step in range(50):
            before = stored(fleet, keys[number])
            change = chosen.choice(WRITES)
            change(fleet, keys[number], step)
            row = stored(fleet, keys[number])
            assert cached(fleet, keys[number]) == row
            for field in ("agent_id", "session_type", "external_id", "created_at", "user_id"):
                assert row[field] == before[field]
            assert row["context"]["kept"] == number

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))


def test_one_corrupt_entry_is_served_and_repaired_alone(fleet: RunningFleet) -> None:
    """AT-B8."""
    tag = uuid.uuid4().hex
    handles = [fleet.client.submit("session.create", tags=[tag], query=f"q{number}") for number in range(100)]
    keys = [handle.result(60)["id"] for handle in handles]
    eventually(lambda: all(cached(fleet, key) for key in keys))
    before = {key: fleet.cache.get(document_key(key)) for key in keys}
    fleet.cache.set(document_key(keys[7]), '{"revision": not json')
    assert fleet.call("session.get", session_id=keys[7])["query"] == "q7"
    assert len(fleet.call("session.list", tag=tag, limit=200)["items"]) == 100
    assert {key: fleet.cache.get(document_key(key)) for key in keys} == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"expires_at": "tomorrow"},
        {"expires_at": "2099-01-01T00:00:00"},
        {"expires_at": 5},
        {"status": ["active"]},
        {"state_version": "2"},
    ],
    ids=str,
)
def test_an_entry_of_wrong_values_is_served_and_repaired_alone(fleet: RunningFleet, wrong: dict[str, Any]) -> None:
    """B-11: well-formed, with every field, and yet nothing that the fleet has written."""
    first, other = (fleet.call("session.create", query=f"q{number}")["id"] for number in range(2))
    entry = json.dumps({**json.loads(fleet.cache.get(document_key(first))), **wrong}, separators=(",", ":"))
    beside = fleet.cache.get(document_key(other))
    reads = (
        lambda: fleet.client.get(first, min_version=1),
        lambda: fleet.call("session.get", session_id=first),
        lambda: fleet.call("session.get_many", session_ids=[first, other])["items"][0],
    )
    for read in reads:
        fleet.cache.set(document_key(first), entry)
        assert read() == stored(fleet, first)
        assert cached(fleet, first) == stored(fleet, first)
    assert fleet.cache.get(document_key(other)) == beside


def test_without_the_cache_redis_everything_works(private_fleet: PrivateFleet, tmp_path: Path) -> None:
    """AT-B9: the broker's Redis stays, the cache's is away."""
    cache = EmbeddedValkey(tmp_path)
    cache.start()
    try:
        fleet = private_fleet(sessions=1, relay=1, FLEET_CACHE_URL=f"{cache.url}/0")
        cache.stop()
        keys = []
        for number in range(50):
            key = fleet.call("session.create", external_id=f"ext-{number}")["id"]
            assert fleet.call("session.update", session_id=key, metadata={"n": number})["changed"]
            assert fleet.call("session.get", session_id=f"ext-{number}")["metadata"] == {"n": number}
            keys.append(key)
        cache.start()
        everything_arrives(fleet, 30)

        def is_cached(key: str) -> bool:
            fleet.call("session.get", session_id=key)
            return cached(fleet, key) == stored(fleet, key)

        for key in keys:
            eventually(lambda key=key: is_cached(key), every=0.1)
    finally:
        cache.stop()
