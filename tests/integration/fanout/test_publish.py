"""Publishing against a real Valkey: both Streams, three channels, each event once (rows D-07, D-09, D-10)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from fanout.cache import DocumentCache
from fanout.connection import connect
from fanout.keys import Keys, document_key
from fanout.publish import CALL_EVENTS, Outgoing, Publisher, PublishOutage
from fanout.streams import Streams
from tests.support.outbox import Listener
from tests.support.servers import Servers
from tests.support.waiting import eventually

KEYS = Keys("t:", "all-sessions")


def event(number: int, session_id: str = "s-1", **values: Any) -> Outgoing:
    return Outgoing(
        **{
            "stream_id": f"{number}-{number}",
            "event_id": f"e-{number}",
            "session_id": session_id,
            "seq": number,
            "event_name": "session.updated",
            "keep": 1000,
            "message": json.dumps({"session_id": session_id, "seq": number}),
            **values,
        }
    )


@pytest.fixture
def publisher(client: Redis) -> Publisher:
    return Publisher(client, KEYS)


@pytest.fixture
def text(pair: Servers, client: Redis) -> Iterator[Redis]:
    """The same database, answers as text."""
    reader = Redis.from_url(pair.redis_url, decode_responses=True)
    yield reader
    reader.close()


def seqs(text: Redis, stream: str) -> list[int]:
    entries: Any = text.xrange(stream)
    return [int(fields["seq"]) for _, fields in entries]


def test_an_event_reaches_streams_and_channels(publisher: Publisher, text: Redis) -> None:
    with Listener(text, "*") as listener:
        result = publisher.publish([event(1, to_global=True), event(2), event(3, "s-2", to_channels=False)])
        eventually(lambda: len(listener.messages) >= 5)
    assert (result.done, result.repeats, result.refused) == (3, 0, {})
    assert [each["seq"] for each in listener.on("t:events:session")] == [1, 2]
    assert [each["seq"] for each in listener.on("t:session:s-1")] == [1, 2]
    assert [each["seq"] for each in listener.on("t:all-sessions")] == [1]
    assert listener.on("t:session:s-2") == []
    assert seqs(text, "t:stream:events") == [1, 2, 3]
    assert seqs(text, "t:stream:session:s-1") == [1, 2]
    assert seqs(text, "t:stream:session:s-2") == [3]
    entries: Any = text.xrange("t:stream:events", count=1)
    fields = {"event_id": "e-1", "session_id": "s-1", "seq": "1", "event_name": "session.updated"}
    assert entries == [("1-1", {"envelope": event(1).message, **fields})]


def test_a_second_time_nothing_is_sent(publisher: Publisher, text: Redis) -> None:
    events = [event(number) for number in range(1, 121)]
    publisher.publish(events[:100])
    with Listener(text, "*") as listener:
        result = publisher.publish(events)
        eventually(lambda: len(listener.messages) >= 40)
    assert (result.done, result.repeats) == (120, 100)
    assert [each["seq"] for each in listener.on("t:events:session")] == list(range(101, 121))
    assert seqs(text, "t:stream:session:s-1") == list(range(1, 121))


def test_after_flushall_streams_start_again_in_order(publisher: Publisher, text: Redis) -> None:
    publisher.publish([event(number) for number in range(1, 11)])
    text.flushall()
    text.script_flush()
    assert publisher.publish([event(11), event(12)]).done == 2
    assert seqs(text, "t:stream:events") == [11, 12]


def test_ids_may_use_all_64_bits(publisher: Publisher, text: Redis) -> None:
    last = 2**64 - 1
    assert publisher.publish([event(1, stream_id=f"{last - 1}-5"), event(2, stream_id=f"{last}-1")]).done == 2
    assert Streams(publisher.client, KEYS).newest() == (last, 1, "e-2")


def test_a_refused_event_stops_what_is_behind_it(publisher: Publisher, text: Redis) -> None:
    text.set("t:stream:session:bad", "no stream")
    text.rpush("t:stream:session:worse", "no stream")
    behind = range(4, 4 + 2 * CALL_EVENTS)
    events = [event(1), event(2, "bad"), event(3), *(event(number) for number in behind)]
    events.append(event(behind.stop, "worse"))
    result = publisher.publish(events)
    assert result.done == 1
    assert list(result.refused) == [1, len(events) - 1]
    assert result.refused[1] == "WRONGTYPE t:stream:session:bad is a string, not a stream"
    assert seqs(text, "t:stream:events") == [1]
    text.delete("t:stream:session:bad", "t:stream:session:worse")
    assert publisher.publish(events).done == len(events)


def test_wrong_type_of_the_stream_of_all_is_nobodys_fault(publisher: Publisher, text: Redis) -> None:
    text.set("t:stream:events", "no stream")
    with pytest.raises(PublishOutage, match="WRONGTYPE") as caught:
        publisher.publish([event(1)])
    assert (caught.value.done, caught.value.tried) == (0, 1)


@pytest.mark.parametrize("trouble", ["read-only", "no memory", "closed connections"])
def test_trouble_of_the_server_is_an_outage_or_nothing(publisher: Publisher, text: Redis, trouble: str) -> None:
    publisher.publish([event(1)])
    if trouble == "read-only":
        text.replicaof("127.0.0.1", "1")
    elif trouble == "no memory":
        text.config_set("maxmemory", "1")
    else:
        text.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    try:
        if trouble == "closed connections":
            assert publisher.publish([event(2)]).done == 1
        else:
            assert not publisher.is_writable()
            with pytest.raises(PublishOutage):
                publisher.publish([event(2)])
    finally:
        text.replicaof("NO", "ONE")
        text.config_set("maxmemory", "0")
    assert publisher.is_writable()
    assert publisher.publish([event(2)]).done == 1
    assert seqs(text, "t:stream:session:s-1") == [1, 2]


def test_nobody_there_is_an_outage() -> None:
    client = connect("redis://127.0.0.1:1/0", name="test", timeout=0.5)
    publisher = Publisher(client, KEYS)
    assert not publisher.is_writable()
    with pytest.raises(PublishOutage) as caught:
        publisher.publish(event(number) for number in range(1, 200))
    assert (caught.value.done, caught.value.tried) == (0, CALL_EVENTS)


def test_streams_keep_what_they_should(publisher: Publisher, text: Redis) -> None:
    publisher.publish([event(number, keep=100) for number in range(1, 3001)])
    assert seqs(text, "t:stream:session:s-1") == list(range(2901, 3001))
    assert text.xlen("t:stream:events") == 3000
    assert 604_700 < text.ttl("t:stream:session:s-1") <= 604_800


def test_the_stream_of_a_deleted_session_goes_soon(publisher: Publisher, text: Redis) -> None:
    publisher.publish([event(1), event(2, deleted=True)])
    assert seqs(text, "t:stream:session:s-1") == [1, 2]
    assert 0 < text.ttl("t:stream:session:s-1") <= 300


def test_a_document_older_than_the_event_is_marked_stale(publisher: Publisher, client: Redis) -> None:
    cache = DocumentCache(client, 600)
    shown = {"revision": 3, "last_seq": 3, "id": "s-1"}
    cache.put([shown])
    publisher.publish([event(2), event(3)])
    assert cache.get("s-1") == shown
    publisher.publish([event(4)])
    assert cache.get("s-1") is None
    assert cache.put([{"revision": 4, "last_seq": 3, "id": "s-1"}]) == 0
    assert cache.put([{"revision": 4, "last_seq": 4, "id": "s-1"}]) == 1
    assert cache.get("s-1") is not None


def test_a_late_writer_of_an_uncached_session_loses_too(publisher: Publisher, client: Redis) -> None:
    cache = DocumentCache(client, 600)
    publisher.publish([event(4)])
    assert cache.put([{"revision": 3, "id": "s-1", "last_seq": 3}]) == 0
    assert 0 < client.ttl(document_key("s-1")) <= 300
    cache.put([{"revision": 4, "id": "s-1", "deleted_at": "2026-01-01T00:00:00Z"}])
    publisher.publish([event(5)])
    assert cache.put([{"revision": 99, "id": "s-1", "last_seq": 99}]) == 0


def test_trim_by_entry_id(publisher: Publisher, text: Redis) -> None:
    streams = Streams(publisher.client, KEYS)
    publisher.publish([event(number) for number in range(1, 1001)])
    assert streams.trim(None) == 0
    gone = streams.trim((500, 500))
    assert 400 <= gone < 500
    assert seqs(text, "t:stream:events") == list(range(gone + 1, 1001))


def test_a_new_generation(publisher: Publisher, client: Redis, text: Redis) -> None:
    streams, cache = Streams(client, KEYS), DocumentCache(client, 600)
    assert streams.newest() is None
    publisher.publish([event(number, f"s-{number}") for number in range(1, 31)])
    cache.put([{"revision": 1, "id": "s-1", "last_seq": 1, "external_id": "x"}])
    text.set("unrelated", "stays")
    streams.retire(1)
    assert streams.newest() is None
    assert cache.get("s-1") is None
    assert text.get("unrelated") == "stays"
    assert seqs(text, "t:stream:events:gen1") == list(range(1, 31))
    assert seqs(text, "t:stream:session:s-7:gen1") == [7]
    assert 0 < text.ttl("t:stream:events:gen1") <= 604_800
    assert publisher.publish([event(1, stream_id="0-1")]).repeats == 0
    streams.retire(2)
    assert seqs(text, "t:stream:events:gen2") == [1]
    assert seqs(text, "t:stream:events:gen1") == list(range(1, 31))
    assert not text.exists("t:stream:session:s-7:gen1:gen2")
