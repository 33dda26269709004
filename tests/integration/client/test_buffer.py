"""Messages kept in memory while the broker is away, for a client that asked for it (B-12)."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator

import pytest

from sessionfleet import AsyncFleet, Fleet, envelope
from sessionfleet.errors import BufferFull, Unavailable, ValidationFailed
from tests.integration.client.test_outages import SLACK, SUBMIT, closed_port, fails_in_time, valkey  # noqa: F401
from workers.embedded import EmbeddedValkey


@pytest.fixture
def broker(valkey: EmbeddedValkey) -> Iterator[EmbeddedValkey]:  # noqa: F811
    """A Redis without workers, empty, up again afterwards."""
    with valkey.client() as client:
        client.flushall()
    yield valkey
    valkey.resume()
    valkey.start()


def queued(broker: EmbeddedValkey) -> list[str]:
    """Task ids in their queue, the oldest first, each once."""
    with broker.client() as client:
        [queue] = [key for key in client.keys("sessions*") if client.type(key) == "list"]
        messages = client.lrange(queue, 0, -1)[::-1]
    return list(dict.fromkeys(json.loads(message)["headers"]["id"] for message in messages))


def is_in_the_file(broker: EmbeddedValkey) -> None:
    """What the broker has taken outlives a SIGKILL from now on: while the disk is slow it holds writes back."""
    with broker.client() as client:
        client.set("mark", 1)
        assert client.waitaof(1, 0, 10_000)[0] == 1


def test_kept_in_order_and_sent_when_the_broker_is_back(broker: EmbeddedValkey) -> None:
    threads = set(threading.enumerate())
    with Fleet.connect(f"{broker.url}/0", submit_timeout=SUBMIT, buffer=200) as client:
        ids = [client.send("session.create")]
        is_in_the_file(broker)
        broker.kill()
        started = time.monotonic()
        ids += [client.send("session.create") for _ in range(200)]
        assert time.monotonic() - started < SUBMIT + SLACK, "only the first waits for the broker"
        with pytest.raises(BufferFull) as full:
            client.send("session.create")
        assert full.value.details["limit"] == 200
        assert full.value.details["idempotency_key"], "which makes a repeat safe"
        error = fails_in_time(lambda: client.call("session.count"))
        assert error.details["service"] in ("the broker", "the result store")
        assert [one.task_id for one in client.flush(0)] == ids[1:]
        broker.start()
        assert client.flush(20) == []
        assert queued(broker) == ids
        with broker.client() as redis:
            assert redis.info("commandstats")["cmdstat_pexpire"]["calls"] < 20, "round trips since it is back"
        ids.append(client.send("session.create"))
        assert queued(broker) == ids
    assert set(threading.enumerate()) == threads


def test_what_is_too_large_is_refused_at_once(broker: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """It never stands before what is kept."""
    monkeypatch.setattr(envelope, "LARGEST", 2000)
    with Fleet.connect(f"{broker.url}/0", submit_timeout=SUBMIT, buffer=5) as client:
        broker.kill()
        first = client.send("session.create")
        with pytest.raises(ValidationFailed):
            client.send("session.create", context={"note": "x" * 3000})
        second = client.send("session.create")
        broker.start()
        assert client.flush(20) == []
    assert queued(broker) == [first, second]


def test_a_call_goes_behind_what_is_kept(broker: EmbeddedValkey) -> None:
    with Fleet.connect(f"{broker.url}/0", submit_timeout=SUBMIT, buffer=5) as client:
        client.submit("session.count")
        broker.pause()
        ids = [client.send("session.create") for _ in range(3)]
        with pytest.raises(Unavailable, match="wait for it"):
            client.submit("session.count")
        broker.resume()
        ids.append(client.submit("session.count").task_id)
        assert [one for one in queued(broker) if one in ids] == ids


def test_what_was_never_sent_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    threads = set(threading.enumerate())
    client = Fleet.connect(f"redis://127.0.0.1:{closed_port()}/0", submit_timeout=0.5, buffer=10)
    ids = [client.send("session.create", idempotency_key=f"k{n}") for n in range(3)]
    started = time.monotonic()
    unsent = client.close()
    assert time.monotonic() - started < 2 * 0.5 + SLACK
    assert [(one.operation, one.task_id, one.idempotency_key) for one in unsent] == [
        ("session.create", id_, f"k{n}") for n, id_ in enumerate(ids)
    ]
    assert "3 messages were kept and never sent" in caplog.text
    assert set(threading.enumerate()) == threads


def test_the_asynchronous_client_does_the_same(broker: EmbeddedValkey) -> None:
    async def go() -> list[str]:
        async with AsyncFleet.connect(f"{broker.url}/0", submit_timeout=SUBMIT, buffer=3) as client:
            broker.kill()
            ids = [await client.send("session.create") for _ in range(3)]
            with pytest.raises(BufferFull):
                await client.send("session.create")
            assert [one.task_id for one in await client.flush(0.1)] == ids
            broker.start()
            assert await client.flush(20) == []
            return ids

    threads = set(threading.enumerate())
    assert asyncio.run(go()) == queued(broker)
    assert set(threading.enumerate()) == threads


def test_how_many() -> None:
    for wrong in (-1, 1_000_001):
        with pytest.raises(ValidationFailed, match="buffer"):
            Fleet.connect("redis://127.0.0.1:1/0", buffer=wrong)
