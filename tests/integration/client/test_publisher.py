"""Both ways of sending, against a Redis that refuses a part of what is sent (B-12)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest

from sessionfleet.envelope import Letter
from sessionfleet.errors import Unavailable
from sessionfleet.names import BELL, BUSY, list_of
from sessionfleet.publisher import AT_ONCE, BYTES_AT_ONCE, AsyncPublisher, Publisher
from sessionfleet.request import Request
from tests.support.servers import private_valkey
from workers.embedded import EmbeddedValkey

SUBMIT = 1.0
Send = Callable[[list[Letter]], None]


@pytest.fixture(scope="module")
def valkey() -> Iterator[EmbeddedValkey]:
    with private_valkey() as server:
        yield server


@pytest.fixture(params=["blocking", "asynchronous"])
def send(request: pytest.FixtureRequest, valkey: EmbeddedValkey) -> Iterator[Send]:
    """Sends all over one connection to an empty Redis."""
    url = f"{valkey.url}/0"
    with valkey.client(0) as broker:
        broker.flushall()
    if request.param == "blocking":
        publisher = Publisher(url, SUBMIT)
        yield lambda letters: publisher.publish(letters, time.monotonic() + SUBMIT)
        publisher.close()
        return
    with asyncio.Runner() as runner:
        sender = AsyncPublisher(url, SUBMIT)
        yield lambda letters: runner.run(sender.publish(letters, time.monotonic() + SUBMIT))
        runner.run(sender.aclose())


def letters(*numbers: int, step: int = 6, queue: str = "sessions") -> list[Letter]:
    return [Letter(Request(str(n), "session.count", queue, {}, step), str(n).encode()) for n in numbers]


def test_a_bell_that_cannot_be_rung_refuses_no_message(valkey: EmbeddedValkey, send: Send) -> None:
    with valkey.client(0) as broker:
        broker.set(BELL + "sessions", "no list")
        send(letters(1))
        send(letters(2))
        assert broker.lrange(list_of("sessions", 6), 0, -1) == ["2", "1"]


def test_nobody_is_woken_while_somebody_will_soon_be_back(valkey: EmbeddedValkey, send: Send) -> None:
    with valkey.client(0) as broker:
        broker.set(BUSY + "sessions", "a worker")
        send(letters(1) + letters(2, queue="other"))
        assert (broker.llen(BELL + "sessions"), broker.llen(BELL + "other")) == (0, 1)
        broker.delete(BUSY + "sessions")
        send(letters(3))
        assert broker.llen(BELL + "sessions") == 1
        assert broker.lrange(list_of("sessions", 6), 0, -1) == ["3", "1"]


def test_a_refused_message_is_told_and_no_answer_is_taken_for_another(valkey: EmbeddedValkey, send: Send) -> None:
    """What came of the rest of its round trip is not left for the next one."""
    with valkey.client(0) as broker:
        broker.set(list_of("sessions", 6), "no list")
        with pytest.raises(Unavailable, match="WRONGTYPE") as caught:
            send(letters(1, step=0) + letters(2) + letters(3, queue="other"))
        assert caught.value.details["attempts"] > 1
        assert caught.value.details["task_id"] == "1"
        broker.set(list_of("third", 6), "no list")
        for _ in range(3):
            with pytest.raises(Unavailable, match="WRONGTYPE"):
                send(letters(4, queue="third"))
            send(letters(5, queue="fourth"))
        assert broker.lrange(list_of("fourth", 6), 0, -1) == ["5"] * 3


def test_any_number_in_order(valkey: EmbeddedValkey, send: Send) -> None:
    send([])
    many = 2 * AT_ONCE + 1
    send(letters(*range(many)))
    with valkey.client(0) as broker:
        assert broker.lrange(list_of("sessions", 6), 0, -1) == [str(n) for n in reversed(range(many))]
        assert broker.llen(BELL + "sessions") == 3


def test_large_ones_go_a_few_at_a_time(valkey: EmbeddedValkey, send: Send) -> None:
    """One round trip with all of them would not be answered in time, and each repeat would send all again."""
    sizes = [BYTES_AT_ONCE // 2, BYTES_AT_ONCE // 2, 1, BYTES_AT_ONCE + 1, 1, 1]
    send([Letter(letter.request, b"x" * size) for letter, size in zip(letters(*range(6)), sizes, strict=True)])
    with valkey.client(0) as broker:
        assert [len(one) for one in reversed(broker.lrange(list_of("sessions", 6), 0, -1))] == sizes
        assert broker.llen(BELL + "sessions") == 4


def test_a_connection_that_the_server_ended_is_made_again(valkey: EmbeddedValkey, send: Send) -> None:
    with valkey.client(0) as broker:
        send(letters(1))
        broker.client_kill_filter(_type="normal", skipme=True)
        send(letters(2))
        assert broker.lrange(list_of("sessions", 6), 0, -1) == ["2", "1"]


def test_a_loop_that_stood_still_takes_what_came_meanwhile(valkey: EmbeddedValkey) -> None:
    """Somebody else's blocking call is no silence of the server: nothing is sent again, nothing fails."""

    async def go() -> None:
        sender = AsyncPublisher(f"{valkey.url}/0", SUBMIT)
        await sender.publish(letters(1), time.monotonic() + SUBMIT)
        sending = asyncio.create_task(sender.publish(letters(2), time.monotonic() + SUBMIT))
        await asyncio.sleep(0)
        time.sleep(SUBMIT)  # noqa: ASYNC251
        await sending
        await sender.aclose()

    with valkey.client(0) as broker:
        broker.flushall()
        asyncio.run(go())
        assert broker.lrange(list_of("sessions", 6), 0, -1) == ["2", "1"]


def test_silence_is_named(valkey: EmbeddedValkey, send: Send) -> None:
    send(letters(1))
    valkey.pause()
    try:
        with pytest.raises(Unavailable, match=r"Timeout reading|does not answer"):
            send(letters(2))
    finally:
        valkey.resume()
