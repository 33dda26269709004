"""Taking, noting and acknowledging messages: the channel alone against a real server (row P-11)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kombu import Producer, Queue

from broker import names
from tests.support.brokers import BrokerBench
from tests.support.looping import Looping, looping


def publish(bench: BrokerBench, *bodies: Any, queue: str = "q", kind: Any = "safe", **options: Any) -> None:
    """Messages in this order."""
    with bench.connection(kind) as connection:
        producer = Producer(connection.default_channel, serializer="json")
        for body in bodies:
            producer.publish(body, exchange="", routing_key=queue, **options)


def unacked(bench: BrokerBench) -> dict[str, Any]:
    return {tag.decode(): json.loads(note) for tag, note in bench.broker.hgetall("unacked").items()}


def ack(message: Any) -> None:
    message.ack()


def test_a_message_is_noted_before_anybody_sees_it(bench: BrokerBench) -> None:
    """The answer of the fetch is not even read, and the message is unacknowledged, owned and dated."""
    publish(bench, "a")
    with looping(bench.connection(), "q") as consumer:
        consumer.turn()
        [tag] = bench.broker.hkeys("unacked")
        assert consumer.received == [] or consumer.bodies == ["a"]
        assert bench.broker.llen("q") == 0
        assert bench.broker.zscore("unacked_index", tag) == pytest.approx(bench.broker.time()[0], abs=5)
        owner = consumer.channel.owner
        assert bench.broker.smembers(names.owned(owner)) == {tag}
        assert bench.broker.zscore(names.ALIVE, owner) is not None
        [content, exchange, queue] = unacked(bench)[tag.decode()]
        assert (exchange, queue) == ("", "q")
        assert content["properties"]["delivery_tag"] != tag.decode()
        consumer.until(lambda: consumer.received)
        consumer.received[0].ack()
        consumer.idle()
        assert bench.settled()


def test_acknowledgements_ride_on_the_next_fetch(bench: BrokerBench) -> None:
    """One script call per message while there are messages: no round trip of its own for an acknowledgement."""
    publish(bench, *range(20))
    with looping(bench.connection(), "q") as consumer:
        consumer.on_message = ack
        consumer.turn()
        before = bench.broker.info("commandstats")
        consumer.until(lambda: len(consumer.received) == 20)
        after = bench.broker.info("commandstats")

        def calls(name: str) -> int:
            return int(after.get(f"cmdstat_{name}", {}).get("calls", 0)) - int(
                before.get(f"cmdstat_{name}", {}).get("calls", 0)
            )

        assert 18 <= calls("evalsha") + calls("eval") <= 21
        assert calls("multi") == 0
        consumer.idle()
        assert bench.settled()


@pytest.mark.parametrize("prefetch", [1, 5, 0])
def test_no_more_than_the_prefetch_count(bench: BrokerBench, prefetch: int) -> None:
    publish(bench, *range(30))
    with looping(bench.connection(), "q", prefetch=prefetch) as consumer:
        consumer.until(lambda: len(consumer.received) == (prefetch or 30))
        for _ in range(3):
            consumer.hub.timer.clear()
            consumer.turn()
        assert consumer.bodies == list(range(prefetch or 30))
        assert bench.broker.llen("q") == 30 - (prefetch or 30)
        assert len(unacked(bench)) == (prefetch or 30)
        consumer.received[0].ack()
        consumer.until(lambda: len(consumer.received) == ((prefetch + 1) if prefetch else 30))


@pytest.mark.parametrize("prefetch", [1, 7])
def test_highest_priority_first_and_in_order(bench: BrokerBench, prefetch: int) -> None:
    for number in range(3):
        for priority in (9, 6, 3, 0):
            publish(bench, [priority, number], priority=priority)
    with looping(bench.connection(), "q", prefetch=prefetch) as consumer:
        consumer.on_message = ack
        consumer.until(lambda: len(consumer.received) == 12)
        assert consumer.bodies == [[priority, number] for priority in (0, 3, 6, 9) for number in range(3)]


@pytest.mark.parametrize("prefetch", [1, 4])
def test_queues_take_turns(bench: BrokerBench, prefetch: int) -> None:
    publish(bench, *(f"a{number}" for number in range(20)), queue="a")
    publish(bench, "b0", "b1", queue="b")
    with looping(bench.connection(), "a", "b", prefetch=prefetch) as consumer:
        consumer.on_message = ack
        consumer.until(lambda: len(consumer.received) == 22)
        assert {"b0", "b1"} <= set(consumer.bodies[:5])


def test_strict_order_of_queues(bench: BrokerBench) -> None:
    """With queue_order_strategy "priority" the second queue waits until the first is empty, also in one fetch."""
    publish(bench, *(f"b{number}" for number in range(5)), queue="b")
    publish(bench, *(f"a{number}" for number in range(5)), queue="a")
    connection = bench.connection(queue_order_strategy="priority")
    with looping(connection, "a", "b", prefetch=4) as consumer:
        consumer.on_message = ack
        consumer.until(lambda: len(consumer.received) == 10)
        assert consumer.bodies == [f"{queue}{number}" for queue in "ab" for number in range(5)]


def test_copies_of_one_message_are_separate(bench: BrokerBench) -> None:
    """A sender that repeats the whole message, tag and all: acknowledging one copy forgets no other [T14]."""
    publish(bench, "a")
    [raw] = bench.broker.lrange("q", 0, -1)
    bench.broker.lpush("q", raw, raw)
    with looping(bench.connection(), "q", prefetch=2) as consumer:
        consumer.until(lambda: len(consumer.received) == 2)
        assert len({message.delivery_tag for message in consumer.received}) == 2
        consumer.received[0].ack()
        consumer.until(lambda: len(consumer.received) == 3)
        assert len(unacked(bench)) == 2
        for message in consumer.received[1:]:
            message.ack()
        consumer.idle()
        assert bench.settled()


def test_a_late_acknowledgement_does_not_forget_the_second_copy(bench: BrokerBench) -> None:
    """Somebody was too slow, his message went to another: his acknowledgement is no longer about it."""
    publish(bench, "a")
    with looping(bench.connection(visibility_timeout=0), "q") as slow:
        slow.until(lambda: slow.received)
        slow.channel.qos.restore_visible(num=10, interval=1)
        with looping(bench.connection(), "q") as second:
            second.until(lambda: second.received)
            assert second.received[0].delivery_info["redelivered"] is True
            slow.received[0].ack()
            slow.channel.flush_acks()
            assert [note[0]["body"] for note in unacked(bench).values()] == [second.received[0]._raw["body"]]


def test_requeue_goes_to_the_end_as_upstream(bench: BrokerBench) -> None:
    publish(bench, "a", "b")
    with looping(bench.connection(), "q") as consumer:
        consumer.until(lambda: consumer.received)
        consumer.received[0].requeue()
        consumer.on_message = ack
        consumer.until(lambda: len(consumer.received) == 3)
        assert consumer.bodies == ["a", "b", "a"]
        assert consumer.received[2].delivery_info["redelivered"] is True
        consumer.idle()
        assert bench.settled()


def test_get_one_by_hand(bench: BrokerBench) -> None:
    """basic_get notes what it takes, gives None for an empty queue, and needs no note without acknowledgement."""
    publish(bench, "a", "b")
    with bench.connection() as connection:
        queue = Queue("q", routing_key="q", channel=connection.default_channel)
        message: Any = queue.get()
        assert message.payload == "a"
        assert list(unacked(bench)) == [message.delivery_tag]
        message.ack()
        assert unacked(bench) == {}
        plain: Any = queue.get(no_ack=True)
        assert plain.payload == "b"
        assert unacked(bench) == {}
        assert queue.get() is None


def test_polling_by_hand_takes_one_at_a_time(bench: BrokerBench) -> None:
    """drain_events delivers one message, as upstream; times out as upstream; what is not acknowledged comes back."""
    publish(bench, *range(3))
    with bench.connection() as connection:
        received: list[Any] = []
        with connection.Consumer([Queue("q", routing_key="q")], on_message=received.append):
            for expected in (1, 2):
                connection.drain_events(timeout=5)
                assert len(received) == expected
            received[0].ack()
            assert bench.broker.llen("q") == 1
            connection.drain_events(timeout=5)
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=0.2)
    assert bench.broker.llen("q") == 2
    assert unacked(bench) == {}


def test_without_acknowledgement_messages_of_any_publisher_come_at_once(bench: BrokerBench) -> None:
    """Reply queues (inspect) need no note and no bell: the stock way is kept."""
    with bench.connection() as connection:
        received: list[Any] = []
        with connection.Consumer([Queue("q", routing_key="q")], on_message=received.append, no_ack=True):
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=0.1)
            publish(bench, "a", kind="stock")
            connection.drain_events(timeout=0.5)
        assert [message.payload for message in received] == ["a"]
        assert unacked(bench) == {}


def test_both_kinds_on_one_channel(bench: BrokerBench) -> None:
    publish(bench, "kept", queue="kept")
    publish(bench, "free", queue="free")
    connection = bench.connection()
    with looping(connection, "kept", prefetch=5) as consumer:
        free: list[Any] = []
        consumer.connection.default_channel.basic_consume(
            "free", True, lambda message: free.append(message.payload), "free-consumer"
        )
        consumer.until(lambda: free and consumer.received)
        assert len(unacked(bench)) == 1
        consumer.received[0].ack()
        consumer.idle()
        assert bench.settled()


def test_a_bell_wakes_and_a_lost_one_costs_a_second(bench: BrokerBench) -> None:
    """With a bell at once; without (a plain publisher) at the latest after brpop_timeout."""
    with looping(bench.connection(), "q") as consumer:
        consumer.on_message = ack
        consumer.idle()
        consumer.hub.timer.clear()
        publish(bench, "a")
        consumer.turn()  # the bell
        consumer.turn()  # the message
        assert consumer.bodies == ["a"]
        consumer.idle()
        publish(bench, "b", kind="stock")
        consumer.until(lambda: len(consumer.received) == 2, timeout=1.5)


def test_whoever_leaves_messages_behind_rings_for_the_next(bench: BrokerBench) -> None:
    publish(bench, "a", "b", "c", kind="stock")
    assert not bench.broker.exists(names.bell("q"))
    with looping(bench.connection(), "q") as consumer:
        consumer.until(lambda: consumer.received)
        assert bench.broker.llen(names.bell("q")) == 1
        consumer.on_message = ack
        ack(consumer.received[0])
        consumer.until(lambda: len(consumer.received) == 3)
        consumer.idle()
        assert not bench.broker.exists(names.bell("q"))


def marks(bench: BrokerBench) -> int:
    """How often a consumer has left its mark; the mark itself is gone in milliseconds."""
    found: dict[str, Any] = bench.broker.info("commandstats")
    return int(found.get("cmdstat_set", {}).get("calls", 0))


@pytest.mark.parametrize(
    ("pace", "count", "room", "left"),
    [
        (0.002, 3, 64, 1),
        (0.003, 3, 64, 0),
        (1.0, 1, 64, 0),
        (0.001, 6, 64, 1),
        (0.001, 7, 64, 0),
        (0.001, 3, 2, 1),
        (None, 1, 64, 0),
    ],
)
def test_who_took_few_messages_says_so(
    bench: BrokerBench, pace: float | None, count: int, room: int, left: int
) -> None:
    """A consumer that collects leaves its mark with up to six messages that it will soon be done with, by its pace:
    three of 2 ms, but not of 3 ms; not while it leaves others behind. No other consumer does. The fetch that finds
    none takes the mark away."""
    publish(bench, *range(count))
    with looping(bench.connection(), "q", prefetch=0) as consumer:
        consumer.on_message = ack
        if pace is not None:
            consumer.channel.delivered = lambda: None
            consumer.channel._pace = pace
            consumer.channel._room = lambda: room
        before = marks(bench)
        consumer.turn()
        consumer.until(lambda: len(consumer.received) == count)
        assert marks(bench) - before == left
        consumer.idle()
        assert not bench.broker.exists(names.busy("q"))


def test_a_mark_of_somebody_else_stays(bench: BrokerBench) -> None:
    """And what is no mark costs no message."""
    mark = names.busy("q")
    bench.broker.set(mark, "somebody")
    with looping(bench.connection(), "q") as consumer:
        consumer.on_message = ack
        consumer.channel.delivered = lambda: None
        consumer.channel._pace = 0.001
        consumer.idle()
        assert bench.broker.get(mark) == b"somebody"
        bench.broker.delete(mark)
        bench.broker.rpush(mark, "no string")
        bench.broker.rpush(names.bell("q"), "for nothing")
        consumer.turn()
        consumer.idle()
        publish(bench, "a")
        consumer.until(lambda: consumer.bodies == ["a"])
        consumer.idle()
        assert bench.settled()


def test_publishing_in_batches_rings(bench: BrokerBench) -> None:
    with bench.connection() as connection:
        producer = Producer(connection.default_channel, serializer="json")
        with producer.batch():
            for number in range(3):
                producer.publish(number, exchange="", routing_key="q")
            assert not bench.broker.exists("q")
    assert bench.broker.llen("q") == 3
    assert bench.broker.llen(names.bell("q")) == 3


def test_expiring_queues(bench: BrokerBench) -> None:
    """x-expires: renewed by publishing and by basic_get, as upstream; consumed as any other queue."""
    queue = Queue("q", routing_key="q", queue_arguments={"x-expires": 60_000})
    with bench.connection() as connection:
        bound = queue(connection.default_channel)
        bound.declare()
        producer = Producer(connection.default_channel, serializer="json")
        producer.publish("a", exchange="", routing_key="q")
        producer.publish("b", exchange="", routing_key="q")
        assert 50_000 < bench.broker.pttl("q") <= 60_000
        bench.broker.pexpire("q", 1000)
        message: Any = bound.get()
        assert message.payload == "a"
        assert bench.broker.pttl("q") > 50_000
        message.ack()
    with looping(bench.connection(), queue) as consumer:
        consumer.until(lambda: consumer.received)
        assert consumer.bodies == ["b"]


def test_everything_is_under_the_global_prefix(bench: BrokerBench) -> None:
    """Two deployments in one database: no key of the channel is outside its prefix, nothing is shared."""
    options = {"global_keyprefix": "one:"}
    with looping(bench.connection(**options), "q") as consumer:
        with bench.connection(**options) as connection:
            Producer(connection.default_channel, serializer="json").publish("a", exchange="", routing_key="q")
        publish(bench, "of somebody else")
        consumer.until(lambda: consumer.received)
        assert consumer.bodies == ["a"]
        consumer.received[0].reject()
        consumer.idle()
        keys = {key.decode() for key in bench.broker.keys("*")}
        assert {key for key in keys if not key.startswith("one:")} == {"q", names.bell("q")}
        assert f"one:{names.QUARANTINE}" in keys
    with bench.connection(**options) as connection:
        Producer(connection.default_channel, serializer="json").publish("b", exchange="", routing_key="q")
        dead = Looping(bench.connection(**options), "q")
        dead.until(lambda: dead.received)
        dead.break_off()
    with looping(bench.connection(dead_after=0, **options), "q") as consumer:
        consumer.until(lambda: consumer.received, timeout=10)
        assert consumer.bodies == ["b"]


def test_a_large_message(bench: BrokerBench) -> None:
    """10 MB travel; beyond the limit a message goes to quarantine without crossing the network."""
    publish(bench, "x" * 10_000_000)
    with looping(bench.connection(), "q") as consumer:
        consumer.on_message = ack
        consumer.until(lambda: consumer.received, timeout=20)
        assert len(consumer.bodies[0]) == 10_000_000
    publish(bench, "y" * 2_000_000, "small")
    with looping(bench.connection(largest_message=1_000_000), "q") as consumer:
        consumer.on_message = ack
        before = bench.broker.info("stats")["total_net_output_bytes"]
        consumer.until(lambda: consumer.received, timeout=20)
        assert consumer.bodies == ["small"]
        assert bench.broker.info("stats")["total_net_output_bytes"] - before < 1_000_000
    [entry] = bench.quarantine()
    assert b"larger than 1000000 bytes" in entry[:200]
    assert len(entry) > 2_000_000
