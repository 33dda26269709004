"""The document cache against a real Valkey (rows B-10, B-11, B-12)."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from fanout.breaker import REST
from fanout.cache import DocumentCache
from fanout.connection import HASTY, connect
from fanout.hints import Hints
from fanout.keys import HINT, document_key, external_key
from fanout.script import Call, Script, run_calls
from tests.support.servers import Servers
from tests.support.waiting import eventually


def document(session_id: str = "s-1", revision: int = 1, **values: Any) -> dict[str, Any]:
    return {"revision": revision, "last_seq": revision, "id": session_id, "status": "active", **values}


@pytest.fixture
def cache(client: Redis) -> DocumentCache:
    return DocumentCache(client, 600)


def test_what_is_put_is_what_is_got(cache: DocumentCache, client: Redis) -> None:
    shown = document(context={"text": "größer 🚀 \u2028", "deep": [1, 2.5, None, {"a": []}]}, external_id="ext 1")
    assert cache.put([shown]) == 1
    assert cache.get("s-1") == shown
    assert cache.find("s-1") == shown
    assert cache.find("ext 1") == shown
    assert 590 <= client.ttl(document_key("s-1")) <= 600
    assert cache.get("s-2") is None
    assert cache.find("s-2") is None


def test_put_from_another_database_of_the_server(cache: DocumentCache, client: Redis) -> None:
    """Documents travel with the answers, whose database is another one; an error of one call is its own."""
    shown, at = document(external_id="ext 2"), client.get_connection_kwargs()
    number = at["db"]
    other = Redis(at["host"], at["port"], (number + 3) % 16, at["password"])
    client.script_flush()
    client.lpush("a list", 1)
    call = cache.putting([shown], hint=True, database=number)
    assert call is not None
    failing = Script("failing", "return redis.call('GET', KEYS[1])")
    first, error, second = run_calls(other, [call, Call(failing, ["a list"], []), call])
    assert (first, second) == (1, 0) and error is None, "the script before has left the connection where it was"
    assert cache.find("ext 2") == shown and client.llen(HINT) == 1
    [error] = run_calls(client, [Call(failing, ["a list"], [])])
    assert isinstance(error, ResponseError)
    other.close()


def test_an_older_or_equal_revision_never_wins(cache: DocumentCache) -> None:
    assert cache.put([document(revision=5, note="first")]) == 1
    assert cache.put([document(revision=5, note="same"), document(revision=4, note="older")]) == 0
    assert cache.get("s-1") == document(revision=5, note="first")
    assert cache.put([document(revision=10, note="newer")]) == 1


def test_fifty_parallel_writers_leave_the_newest(cache: DocumentCache) -> None:
    revisions = list(range(1, 51))
    random.Random(7).shuffle(revisions)
    with ThreadPoolExecutor(16) as pool:
        stored = sum(pool.map(lambda each: cache.put([document(revision=each)]), revisions))
    assert cache.get("s-1") == document(revision=50)
    assert 1 <= stored <= 50


def test_one_round_of_many(cache: DocumentCache) -> None:
    documents = [document(f"s-{number}", number) for number in range(1, 101)]
    assert cache.put(documents) == 100
    found = cache.get_many([*(f"s-{number}" for number in range(1, 102)), "s-1"], 1_000_000)
    assert found.documents == {shown["id"]: shown for shown in documents}
    assert found.looked_at == 101
    assert cache.get_many([], 1).documents == {}


def as_text(value: str) -> Callable[[Redis, str], object]:
    return lambda client, key: client.set(key, value)


CORRUPT: dict[str, Callable[[Redis, str], object]] = {
    "no JSON": as_text("{not json"),
    "cut": as_text('{"revision":99,"id":"s-7","status":"act'),
    "bytes": lambda client, key: client.set(key, b"\xff\xfe\x00"),
    "empty": as_text(""),
    "a list in JSON": as_text("[1,2]"),
    "no revision": as_text('{"id":"s-7","status":"active"}'),
    "revision is text": as_text('{"revision":"9","id":"s-7"}'),
    "of another session": as_text('{"revision":99,"last_seq":99,"id":"s-8","status":"active"}'),
    "a hash": lambda client, key: (client.delete(key), client.hset(key, "a", "b")),
    "a list": lambda client, key: (client.delete(key), client.rpush(key, "a")),
}


@pytest.mark.parametrize("corrupt", CORRUPT.values(), ids=CORRUPT)
def test_a_corrupt_entry_is_a_miss_and_goes_alone(
    cache: DocumentCache, client: Redis, corrupt: Callable[[Redis, str], object]
) -> None:
    cache.put([document(f"s-{number}") for number in range(100)])
    corrupt(client, document_key("s-7"))
    assert cache.get("s-7") is None
    assert not client.exists(document_key("s-7"))
    assert len(cache.get_many([f"s-{number}" for number in range(100)], 1_000_000).documents) == 99
    assert cache.put([document("s-7", 2)]) == 1
    assert cache.get("s-7") == document("s-7", 2)


@pytest.mark.parametrize("kind", ["no JSON", "a hash", "a list"])
def test_a_corrupt_entry_is_overwritten(cache: DocumentCache, client: Redis, kind: str) -> None:
    client.set(document_key("s-7"), "x")
    CORRUPT[kind](client, document_key("s-7"))
    assert cache.put([document("s-7")]) == 1
    assert cache.get("s-7") == document("s-7")


def test_an_entry_of_another_release_is_a_miss(client: Redis) -> None:
    DocumentCache(client, 600).put([document()])
    newer = DocumentCache(client, 600, fields=["id", "status", "a_new_column"])
    assert newer.get("s-1") is None
    assert newer.put([document(a_new_column=1)]) == 1
    assert newer.get("s-1") == document(a_new_column=1)


def test_a_deleted_session_stays_away_from_late_writers(cache: DocumentCache, client: Redis) -> None:
    cache.put([document(external_id="ext 1")])
    assert cache.put([document(external_id="ext 1", deleted_at="2026-01-01T00:00:00Z")]) == 1
    assert cache.put([document(revision=1000)]) == 0
    assert cache.get("s-1") is None
    assert cache.find("ext 1") is None
    assert 0 < client.ttl(document_key("s-1")) <= 300
    assert json.loads(client.get(document_key("s-1")) or "") == {"revision": 9007199254740991, "deleted": True}


def test_an_external_id_in_new_hands(cache: DocumentCache, client: Redis) -> None:
    cache.put([document("s-1", external_id="ext 1")])
    client.set(external_key("ext 1"), "s-2")
    assert cache.find("ext 1") is None
    cache.put([document("s-2", external_id="something else")])
    assert cache.find("ext 1") is None
    client.delete(external_key("ext 1"))
    client.rpush(external_key("ext 1"), "s-1")
    assert cache.find("ext 1") is None


def test_an_external_id_that_is_the_own_id_needs_no_entry(cache: DocumentCache, client: Redis) -> None:
    cache.put([document("s-1", external_id="sess-s-1"), document("s-2", external_id="sess-s-3")])
    assert cache.find("sess-s-1") == cache.get("s-1")
    assert not client.exists(external_key("sess-s-1"))
    assert cache.find("sess-s-2") is None
    cache.put([document("s-3", external_id="ext 3")])
    assert cache.find("sess-s-3") == cache.get("s-2")


def test_a_stale_mark_is_a_miss_and_refuses_what_is_from_before(cache: DocumentCache, client: Redis) -> None:
    client.set(document_key("s-1"), '{"revision":4,"last_seq":6,"stale":true}')
    assert cache.get("s-1") is None
    assert cache.put([document(revision=5, last_seq=5)]) == 0
    assert cache.put([document(revision=6, last_seq=6)]) == 1
    assert cache.get("s-1") == document(revision=6)


def test_scripts_are_found_again_after_the_server_forgot_them(cache: DocumentCache, client: Redis) -> None:
    for revision in (1, 2):
        client.script_flush()
        assert cache.put([document(revision=revision), document("s-2", revision)]) == 2


def test_a_document_json_cannot_hold_spoils_no_other(cache: DocumentCache) -> None:
    assert cache.put([document("s-1", note=object()), {"revision": 1}, document("s-2")]) == 1
    assert cache.get("s-2") == document("s-2")


def test_a_large_document(cache: DocumentCache) -> None:
    shown = document(context={"text": "x" * 1_000_000})
    assert cache.put([shown]) == 1
    assert cache.put([shown]) == 0
    assert cache.get("s-1") == shown


def test_drop(cache: DocumentCache) -> None:
    cache.put([document()])
    cache.drop("s-1")
    assert cache.get("s-1") is None


def test_keys_is_never_asked(cache: DocumentCache, client: Redis) -> None:
    client.config_resetstat()
    cache.put([document()])
    cache.find("nothing")
    cache.put([document(deleted_at="2026-01-01T00:00:00Z")])
    cache.drop("s-1")
    statistics: Any = client.info("commandstats")
    assert "cmdstat_keys" not in statistics


@pytest.mark.parametrize("outage", ["stopped", "frozen"])
def test_without_redis_calls_are_quick_and_quiet(client: Redis, pair: Servers, outage: str) -> None:
    hasty = connect(pair.redis_url, name="test", timeout=HASTY)
    cache, valkey = DocumentCache(hasty, 600), pair.valkey
    now = 0.0
    cache.breaker._clock = lambda: now  # one rest lasts for the whole loop, however busy the machine is
    assert valkey is not None
    cache.put([document()])
    if outage == "stopped":
        valkey.stop()
    else:
        valkey.process.kill(signal.SIGSTOP)  # type: ignore[union-attr]
    try:
        started = time.monotonic()
        assert cache.get("s-1") is None  # pays for finding out
        found_out = time.monotonic() - started
        started = time.monotonic()
        for _ in range(20):
            assert cache.put([document(revision=2)]) == 0
            assert cache.get("s-1") is None
            assert cache.get_many(["s-1"], 1).documents == {}
            cache.drop("s-2")
            assert cache.put([], hint=True) == 0
        skipping = time.monotonic() - started
    finally:
        if outage == "stopped":
            valkey.start()
        else:
            valkey.process.kill(signal.SIGCONT)  # type: ignore[union-attr]
    assert found_out < 4.0
    assert skipping < 4.0
    assert cache.breaker.failures == 1
    now = 2 * REST
    eventually(lambda: cache.get("s-1") == document())
    assert cache.put([document(revision=3)]) == 1
    hasty.close()


def test_hints_before_a_look_are_one(cache: DocumentCache, client: Redis) -> None:
    import threading

    hints, stop = Hints(client), threading.Event()
    for _ in range(5):
        cache.put([], hint=True)
    assert client.llen(HINT) == 1
    assert hints.wait(1, stop)
    assert not hints.wait(0.05, stop)
