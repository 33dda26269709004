"""A worker that may fetch many messages takes few slow ones: the rest stays for the others (row P-11)."""

from __future__ import annotations

import re
from typing import Any

from kombu import Producer, Queue

from tests.support import eventually
from tests.support.brokers import BrokerBench
from tests.support.looping import looping
from workers.processes import ManagedProcess

MANY = ("--pool", "solo", "--prefetch-multiplier", "64")
"""As the line of the sessions workers in the Procfile."""


def naps(process: ManagedProcess) -> int:
    """Slow tasks this worker has done."""
    return len(re.findall(r"Task nap\[.*succeeded", process.log_text()))


def test_a_second_worker_gets_its_share_of_slow_messages(bench: BrokerBench) -> None:
    """The first worker alone could fetch all of them; it takes what it will have done soon."""
    app = bench.app("safe")
    first = bench.worker(*MANY)
    for n in range(40):
        app.send_task("nap", [str(n), 0.25])
    eventually(lambda: bench.notes.hlen("started") >= 1, 20)
    second = bench.worker(*MANY)
    eventually(lambda: len(bench.done()) == 40, 60)
    eventually(lambda: naps(first) + naps(second) == 40)
    assert set(bench.done().values()) == {1}
    # Ten seconds of work; the second one needs a second or two to start, on a busy machine some more.
    assert naps(second) >= 8
    assert naps(first) >= 8


def test_an_urgent_message_passes_what_waits(bench: BrokerBench) -> None:
    """E-14: behind slow messages of low priority it waits for those that were fetched, and those are few."""
    app = bench.app("safe")
    bench.worker(*MANY)
    for n in range(30):
        app.send_task("nap", [str(n), 0.2], priority=9)
    eventually(lambda: len(bench.done()) >= 6, 20)  # it knows by now that they are slow
    app.send_task("note", ["urgent"], priority=0)
    eventually(lambda: "urgent" in bench.done(), 20)
    order = list(bench.notes.lrange("order", 0, -1))
    assert order.index("urgent") < 15, "of thirty"


def test_quick_messages_are_fetched_by_the_dozen(bench: BrokerBench) -> None:
    """The pace of those before decides: quick ones make for large fetches, a slow one for small ones again."""
    with bench.connection() as connection:
        producer = Producer(connection.default_channel, serializer="json")
        for n in range(400):
            producer.publish(n, exchange="", routing_key="q")
    with looping(bench.connection(), Queue("q", routing_key="q"), prefetch=64) as consumer:
        consumer.on_message = lambda message: message.ack()
        assert consumer.channel._room() < 10, "nothing is known yet"
        consumer.until(lambda: len(consumer.received) >= 200)
        assert consumer.channel._room() > 30
        consumer.channel._pace = 1.0  # a task took a second
        assert consumer.channel._room() == 1
        consumer.until(lambda: len(consumer.received) == 400)
        assert consumer.channel._room() > 30
        consumer.idle()
        assert bench.settled()


def test_a_fetch_ends_where_it_gets_large(bench: BrokerBench) -> None:
    """A consumer holds in memory what it has fetched: about 8 MiB, and at least one message of any size."""
    with bench.connection() as connection:
        producer = Producer(connection.default_channel, serializer="json")
        for _ in range(20):
            producer.publish("x" * 1_000_000, exchange="", routing_key="q")
    with looping(bench.connection(), Queue("q", routing_key="q"), prefetch=64) as consumer:
        consumer.channel._pace = 0.0001  # those before were quick
        held: list[int] = []

        def take(message: Any) -> None:
            held.append(bench.broker.hlen("unacked"))
            message.ack()

        consumer.on_message = take
        consumer.until(lambda: len(consumer.received) == 20)
        assert 6 <= max(held) <= 12, "of 20 messages, 1.3 MB each on the wire"
        consumer.idle()
        assert bench.settled()
