"""Publishers without bells start as soon as others (row P-11)."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Iterator

import pytest
import redis
from celery import Celery

from broker import names
from broker.ringer import Ringer
from tests.support import eventually
from tests.support.brokers import BrokerBench
from tests.support.processors import kept_waiting
from tests.support.resting import at_rest
from workers.embedded import EmbeddedValkey


@pytest.fixture
def ringer(bench: BrokerBench) -> Iterator[Ringer]:
    client = redis.Redis.from_url(bench.url, socket_timeout=1)
    ringer, stop = Ringer(client, ["celery", "other"]), threading.Event()
    thread = threading.Thread(target=ringer.run, args=(stop,))
    thread.start()
    yield ringer
    stop.set()
    thread.join(2)
    assert not thread.is_alive()
    client.close()


def start_times(bench: BrokerBench, server: EmbeddedValkey, app: Celery, count: int) -> list[float]:
    """Milliseconds from before the sending to the end of each task, one after the other on an idle fleet.

    Without those in which who had the next step to do waited for a processor: others may be at work on this machine.
    """
    worker = bench.worker()
    concerned = (os.getpid(), server.process.pid, worker.pid)
    times = []
    for number in range(count):
        at_rest(bench.broker, 1)
        waited, began = kept_waiting(*concerned), time.perf_counter()
        app.send_task("note", [number])
        assert bench.notes.blpop(["order"], 4)
        took = time.perf_counter() - began
        times.append((took - (kept_waiting(*concerned) - waited)) * 1000)
    return times


def test_a_plain_producer_starts_at_once(bench: BrokerBench, server: EmbeddedValkey, ringer: Ringer) -> None:
    """send_task of an unmodified Celery on an idle fleet: half within 20 ms, nearly all within 50 ms."""
    times = start_times(bench, server, bench.app("stock"), 60)
    assert statistics.median(times) < 25
    assert sorted(times)[int(len(times) * 0.9)] < 50


def test_our_producers_need_no_ringer(bench: BrokerBench, server: EmbeddedValkey) -> None:
    assert statistics.median(start_times(bench, server, bench.app("safe"), 40)) < 10


def test_without_a_ringer_it_is_a_second(bench: BrokerBench, server: EmbeddedValkey) -> None:
    assert max(start_times(bench, server, bench.app("stock"), 3)) < 1500


def test_rings_only_where_nobody_has(bench: BrokerBench, ringer: Ringer) -> None:
    """One bell per queue with messages, whatever the priority; none for empty queues; not again while it hangs."""
    eventually(lambda: bench.broker.info("commandstats").get("cmdstat_evalsha"), 5)
    assert not bench.broker.exists(names.bell("celery"))
    bench.app("stock").send_task("note", [1], priority=9)
    eventually(lambda: bench.broker.llen(names.bell("celery")) == 1, 1)
    assert [ringer.look() for _ in range(3)] == [0, 0, 0]
    assert not bench.broker.exists(names.bell("other"))


def test_leaves_what_somebody_will_soon_take(bench: BrokerBench, ringer: Ringer) -> None:
    """No bell while a consumer's mark is there; when it is gone and the message is not, there is."""
    bench.broker.set(names.busy("celery"), "one")
    bench.app("stock").send_task("note", [1])
    assert [ringer.look() for _ in range(3)] == [0, 0, 0]
    assert not bench.broker.exists(names.bell("celery"))
    bench.broker.delete(names.busy("celery"))
    eventually(lambda: bench.broker.llen(names.bell("celery")) == 1, 1)


def test_a_server_that_is_away_is_waited_for(bench: BrokerBench, ringer: Ringer, server: EmbeddedValkey) -> None:
    server.restart()
    bench.app("stock").send_task("note", [1])
    eventually(lambda: bench.broker.llen(names.bell("celery")) == 1, 3)
