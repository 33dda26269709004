"""Nothing fetched is lost: callbacks that fail, consumers that leave, die or never got their answer (row P-11)."""

from __future__ import annotations

import json
import select
import time
from contextlib import suppress
from typing import Any

import pytest
from kombu import Consumer, Producer, Queue

from broker import liveness, names
from tests.support import eventually
from tests.support.brokers import BrokerBench
from tests.support.looping import Looping, looping


def publish(bench: BrokerBench, *bodies: Any, queue: str = "q") -> None:
    with bench.connection() as connection:
        producer = Producer(connection.default_channel, serializer="json")
        for body in bodies:
            producer.publish(body, exchange="", routing_key=queue)


def ack(message: Any) -> None:
    message.ack()


def waiting(bench: BrokerBench, queue: str = "q") -> list[Any]:
    """Bodies in the order they would be taken, with whether they are marked as redelivered."""
    found = []
    for raw in reversed(bench.broker.lrange(queue, 0, -1)):
        message = json.loads(raw)
        found.append((message, bool(message["properties"]["delivery_info"].get("redelivered"))))
    with bench.connection() as connection:
        channel: Any = connection.default_channel
        return [(channel.Message(message, channel=channel).payload, again) for message, again in found]


def test_one_that_raises_takes_nothing_else_with_it(bench: BrokerBench) -> None:
    """The error is let out; the others of the same fetch are delivered in the next turns."""
    publish(bench, *range(6))
    with looping(bench.connection(), "q", prefetch=6) as consumer:

        def fail_at_two(message: Any) -> None:
            if message.payload == 2:
                raise RuntimeError("on purpose")
            message.ack()

        consumer.on_message = fail_at_two
        with pytest.raises(RuntimeError, match="on purpose"):
            consumer.until(lambda: len(consumer.received) == 6)
        assert consumer.bodies == [0, 1, 2]
        consumer.until(lambda: len(consumer.received) == 6)
        assert consumer.bodies == [0, 1, 2, 3, 4, 5]
        consumer.channel.flush_acks()
        assert bench.broker.hlen("unacked") == 1
    assert waiting(bench) == [(2, True)]


def test_one_that_raises_a_connection_error(bench: BrokerBench) -> None:
    """Whoever closes the channel then gets everything back into the queue, the undelivered unmarked, in order."""
    publish(bench, *range(6))
    with looping(bench.connection(), "q", prefetch=6) as consumer:

        def fail_at_two(message: Any) -> None:
            if message.payload == 2:
                raise ConnectionError("on purpose")

        consumer.on_message = fail_at_two
        with pytest.raises(ConnectionError):
            consumer.until(lambda: len(consumer.received) == 6)
    assert waiting(bench) == [(0, True), (1, True), (2, True), (3, False), (4, False), (5, False)]
    assert not bench.broker.exists("unacked", "unacked_index", names.ALIVE)


def test_slow_tasks_delay_neither_acknowledgements_nor_the_loop(bench: BrokerBench) -> None:
    """A fetch is cut after 10 ms of running: timers fire and acknowledgements go between its messages."""
    publish(bench, *range(8))
    with looping(bench.connection(), "q", prefetch=8) as consumer:
        consumer.channel._pace = 0.001  # those before were quick, so all eight are fetched at once
        left: list[int] = []
        ticks: list[int] = []

        def slow(message: Any) -> None:
            consumer.hub.timer.call_after(0, lambda: ticks.append(len(consumer.received)))
            left.append(bench.broker.hlen("unacked"))
            bench.broker.blpop("nothing", 0.02)
            message.ack()

        consumer.on_message = slow
        consumer.until(lambda: len(consumer.received) == 8)
        assert left == [8, 7, 6, 5, 4, 3, 2, 1]
        assert ticks == [1, 2, 3, 4, 5, 6, 7]


def test_a_cancelled_consumer_gives_back_what_it_did_not_see(bench: BrokerBench) -> None:
    """Cancelled in the middle of a delivery: the rest goes back to the head of its queue, in order, unmarked."""
    publish(bench, *range(5))
    publish(bench, "other", queue="other")
    with looping(bench.connection(), "q", "other", prefetch=6) as consumer:

        def cancel_at_one(message: Any) -> None:
            message.ack()
            if message.payload == 1:
                consumer.consumer.cancel_by_queue("q")

        consumer.on_message = cancel_at_one
        consumer.until(lambda: "other" in consumer.bodies and 1 in consumer.bodies)
        consumer.idle()
        assert waiting(bench) == [(2, False), (3, False), (4, False)]
        publish(bench, "next", queue="other")
        consumer.until(lambda: "next" in consumer.bodies)
        assert set(consumer.bodies) == {0, 1, "other", "next"}


def test_cancelled_while_a_fetch_is_under_way(bench: BrokerBench) -> None:
    """The answer comes after the cancellation: its messages go back as they were."""
    publish(bench, 0, 1)
    with looping(bench.connection(), "q", prefetch=2) as consumer:
        consumer.ask()
        consumer.consumer.cancel_by_queue("q")
        assert bench.broker.llen("q") == 0
        consumer.channel._brpop_read()
        assert consumer.received == []
    assert waiting(bench) == [(0, False), (1, False)]


@pytest.mark.parametrize("request_", ["fetch", "bell"])
def test_closed_while_a_request_is_under_way(bench: BrokerBench, request_: str) -> None:
    """Closing is quick, keeps everything in the queue and leaves no trace of the consumer."""
    consumer = Looping(bench.connection(), "q", prefetch=2)
    if request_ == "bell":
        consumer.wait()
        publish(bench, 0, 1)
    else:
        publish(bench, 0, 1)
        consumer.ask()
        assert bench.broker.llen("q") == 0
    consumer.close()
    assert waiting(bench) == [(0, False), (1, False)]
    assert bench.broker.exists(names.bell("q"))
    assert not bench.broker.exists("unacked", "unacked_index", names.ALIVE)


def test_the_message_comes_with_the_bell(bench: BrokerBench) -> None:
    """An idle consumer has sent its fetch behind its wait: noted before it has read anything, and read at once."""
    with looping(bench.connection(), "q", prefetch=10) as consumer:
        consumer.wait()
        publish(bench, "a")
        assert select.select([consumer.channel._in_poll._sock], [], [], 20)[0]
        assert (bench.broker.llen("q"), bench.broker.hlen("unacked")) == (0, 1)
        assert consumer.channel._brpop_read()
        assert consumer.bodies == ["a"]


def test_what_was_sent_behind_the_bell_and_not_heard(bench: BrokerBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed in the moment in which it rings: what was taken goes back at once."""
    consumer = Looping(bench.connection(), "q", prefetch=10)
    consumer.wait()
    publish(bench, "a")
    monkeypatch.setattr(consumer.channel._in_poll, "can_read", lambda timeout: False)
    consumer.close()
    assert waiting(bench) == [("a", True)]
    assert not bench.broker.exists("unacked", "unacked_index", names.ALIVE)


def test_who_was_signed_off_takes_nothing_behind_a_wait(bench: BrokerBench) -> None:
    """Others took it for dead, or it has left: the message stays, its bell is rung for the next. One that lives
    after all is known again by its next fetch."""
    with looping(bench.connection(), "q", prefetch=10) as consumer:
        consumer.wait()
        bench.broker.delete(names.ALIVE)
        publish(bench, "a")
        assert select.select([consumer.channel._in_poll._sock], [], [], 20)[0]
        assert (bench.broker.llen("q"), bench.broker.llen(names.bell("q"))) == (1, 1)
        consumer.until(lambda: consumer.received)
        assert bench.broker.zcard(names.ALIVE) == 1


def test_messages_of_a_dead_consumer_come_back(bench: BrokerBench) -> None:
    """What it held returns dead_after seconds later, oldest first, with one death counted; not before."""
    publish(bench, *range(4))
    dead = Looping(bench.connection(), "q", prefetch=4)
    dead.on_message = lambda message: ack(message) if message.payload == 0 else None
    dead.until(lambda: len(dead.received) == 4)
    dead.channel.flush_acks()
    dead.break_off()
    with looping(bench.connection(dead_after=2), "q", prefetch=4) as consumer:
        assert liveness.return_messages_of_the_dead(consumer.channel) == 0
        consumer.until(lambda: len(consumer.received) == 3, timeout=8)
        assert consumer.bodies == [1, 2, 3]
        assert [message.headers[names.DEATHS] for message in consumer.received] == [1, 1, 1]
        for message in consumer.received:
            message.ack()
        consumer.idle()
        assert bench.broker.zcard(names.ALIVE) == 1
        assert bench.settled()


@pytest.mark.parametrize("how", ["dead", "overdue", "leaves", "cancelled"])
def test_several_come_back_in_one_step(bench: BrokerBench, how: str) -> None:
    """Whoever takes in the middle of it, as one whose wait ends just then does, finds all or none: the oldest first.
    One that waits for the list itself, as stock workers do, takes in the first moment in which it can."""
    publish(bench, *range(12))
    holder = Looping(bench.connection(), "q", prefetch=12)
    holder.channel._pace = 0.001  # those before were quick, so all twelve are fetched at once
    delivered = 5 if how == "leaves" else 0 if how == "cancelled" else 12

    def stop(message: Any) -> None:
        if message.payload == delivered - 1:
            raise ConnectionError("on purpose")

    holder.on_message = stop
    if how == "cancelled":
        holder.ask()
    else:
        with pytest.raises(ConnectionError):
            holder.until(lambda: False)
    assert bench.broker.hlen("unacked") == 12
    waiter = bench.broker.connection_pool.get_connection()
    waiter.send_command("BRPOP", "q", 20)
    eventually(lambda: bench.broker.info("clients")["blocked_clients"] == 1, 10)
    if how == "leaves":
        holder.close()
    elif how == "cancelled":
        holder.consumer.cancel()
        holder.channel._brpop_read()
        holder.close()
    else:
        holder.break_off()
        options = {"dead_after": 0} if how == "dead" else {"visibility_timeout": 0}
        with looping(bench.connection(**options), "other") as other:
            if how == "dead":
                assert liveness.return_messages_of_the_dead(other.channel) == 12
            else:
                other.channel.qos.restore_visible(num=100, interval=1)
    bench.broker.rpush("q", waiter.read_response()[1])  # as the first again
    bench.broker.connection_pool.release(waiter)
    assert [body for body, _ in waiting(bench)] == list(range(12))


def test_more_than_one_step_can_take(bench: BrokerBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then in several, the newest first: all are there in the end, in order, and rung for once."""
    monkeypatch.setattr("broker.returning.AT_ONCE", 5)
    publish(bench, *range(12))
    with looping(bench.connection(), "q", prefetch=12) as holder:
        holder.channel._pace = 0.001
        holder.until(lambda: len(holder.received) == 12)
    assert waiting(bench) == [(number, True) for number in range(12)]
    assert bench.broker.llen(names.bell("q")) == 1


def test_a_queue_that_is_no_list_costs_no_message(bench: BrokerBench) -> None:
    """Nothing goes back before its key is mended; then everything does."""
    publish(bench, 0, 1)
    holder = Looping(bench.connection(), "q", prefetch=2)
    holder.until(lambda: len(holder.received) == 2)
    holder.break_off()
    bench.broker.set("q", "text")
    with looping(bench.connection(dead_after=0), "other") as other:
        assert liveness.return_messages_of_the_dead(other.channel) == 0
        assert bench.broker.hlen("unacked") == bench.broker.zcard("unacked_index") == 2
        bench.broker.delete("q")
        assert liveness.return_messages_of_the_dead(other.channel) == 2
    assert waiting(bench) == [(0, True), (1, True)]


def test_they_come_back_to_one_that_polls_by_hand(bench: BrokerBench) -> None:
    """As workers with gevent do: it waits for longer than a wait for a bell lasts, and finds what is overdue."""
    publish(bench, "a")
    dead = Looping(bench.connection(), "q")
    dead.until(lambda: dead.received)
    dead.break_off()
    found: list[Any] = []
    with (
        bench.connection(dead_after=2) as connection,
        Consumer(connection, [Queue("q", routing_key="q")], on_message=found.append),
    ):
        until = time.monotonic() + 15
        while not found and time.monotonic() < until:
            with suppress(TimeoutError):
                connection.drain_events(timeout=2)
    assert [message.payload for message in found] == ["a"]


def test_a_living_consumer_keeps_what_it_holds(bench: BrokerBench) -> None:
    """Its loop turns, or its heartbeat beats while the loop is busy: nobody takes its messages."""
    publish(bench, "a")
    with looping(bench.connection(), "q") as slow, looping(bench.connection(dead_after=3), "q") as other:
        slow.until(lambda: slow.received)
        beat = liveness.Heartbeat(slow.channel)
        beat.start()
        try:
            with pytest.raises(AssertionError, match="not within"):
                other.until(lambda: other.received, timeout=6)
        finally:
            beat.stop()
            beat.join(5)
        other.until(lambda: other.received, timeout=6)


def test_an_answer_that_never_arrived(bench: BrokerBench) -> None:
    """The script ran, the connection broke before its answer was read: the consumer goes on on a new one, and
    what it never saw comes back as from a dead one while what it runs stays its own."""
    publish(bench, "held")
    with looping(bench.connection(dead_after=2), "q", prefetch=3) as consumer:
        consumer.until(lambda: consumer.received)
        publish(bench, "never seen")
        consumer.ask()
        assert bench.broker.hlen("unacked") == 2
        consumer.channel._in_poll.disconnect()
        consumer.until(lambda: len(consumer.received) == 2, timeout=10)
        assert consumer.bodies == ["held", "never seen"]
        for message in consumer.received:
            message.ack()
        consumer.idle()
        assert bench.settled()


def test_two_sweepers_return_a_message_once(bench: BrokerBench) -> None:
    publish(bench, *range(20))
    dead = Looping(bench.connection(), "q", prefetch=20)
    dead.until(lambda: len(dead.received) == 20)
    dead.break_off()
    with (
        looping(bench.connection(dead_after=0), "other") as one,
        looping(bench.connection(dead_after=0), "other") as two,
    ):
        tags = [message.delivery_tag for message in dead.received]
        returned = [one.channel.qos.restore_by_tag(tag) or two.channel.qos.restore_by_tag(tag) for tag in tags]
        again = [one.channel.qos.restore_by_tag(tag) or two.channel.qos.restore_by_tag(tag) for tag in tags]
    assert returned == [True] * 20
    assert again == [False] * 20
    assert bench.broker.llen("q") == 20


def test_overdue_by_the_servers_clock(bench: BrokerBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker whose clock is two hours ahead takes nobody's messages for overdue [T19]."""
    publish(bench, "a")
    with looping(bench.connection(), "q") as holder, looping(bench.connection(visibility_timeout=30), "q") as ahead:
        holder.until(lambda: holder.received)
        monkeypatch.setattr("kombu.transport.redis.time", lambda: bench.broker.time()[0] + 7200.0)
        ahead.channel.qos.restore_visible(num=10, interval=1)
        assert bench.broker.hlen("unacked") == 1
        ahead.channel.qos.__dict__["visibility_timeout"] = 0
        ahead.channel.qos.restore_visible(num=10, interval=1)
        assert bench.broker.hlen("unacked") == 0


def test_what_cannot_be_returned_goes_to_quarantine(bench: BrokerBench) -> None:
    """Notes nobody can read, or for a queue nobody knows, stop no sweep and are not lost."""
    publish(bench, "good")
    [raw] = bench.broker.lrange("q", 0, -1)
    bench.broker.delete("q")
    notes = {
        "torn": b"[" + raw[:40] + b',"","q"]',
        "shapeless": b'["text","","q"]',
        "homeless": b"[" + raw + b',"gone","q"]',
        "good": b"[" + raw + b',"","q"]',
    }
    bench.broker.hset("unacked", mapping=notes)
    bench.broker.zadd("unacked_index", dict.fromkeys(notes, 1.0))
    with looping(bench.connection(), "q") as consumer:
        consumer.until(lambda: consumer.received)
        assert consumer.bodies == ["good"]
        entries = [entry.partition(b"\n") for entry in bench.quarantine()]
        assert {raw for _, _, raw in entries} >= {raw[:40], b'"text"'}
        assert len(entries) == 3
        assert bench.broker.zcard("unacked_index") == 1
