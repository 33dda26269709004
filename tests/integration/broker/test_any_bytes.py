"""No message ends a worker or is lost: malformed shapes and changed bytes run or are kept (rows D-18, P-11) [T17]."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from broker.quarantine import Entry
from tests.support import eventually
from tests.support.brokers import BrokerBench
from tests.support.malformed import flipped, shapes, task_message

SEED = int(os.environ.get("BROKER_TEST_SEED", "1"))
FLIPS = int(os.environ.get("BROKER_TEST_FLIPS", "1000"))
POOLS = {"solo": ("--pool", "solo"), "prefork": ("--pool", "prefork", "-c", "2")}


class Canary(threading.Thread):
    """Sends a good task each 100 ms and keeps how long the slowest took."""

    def __init__(self, bench: BrokerBench) -> None:
        super().__init__(daemon=True)
        self.end = threading.Event()
        self.sent = 0
        self.slowest = 0.0
        self._bench = bench
        self._app = bench.app("safe")

    def run(self) -> None:
        while not self.end.wait(0.1):
            began = time.monotonic()
            self._app.send_task("note", [f"canary-{self.sent}"])
            eventually(lambda: self._bench.notes.hexists("done", f"canary-{self.sent}"), 30, every=0.01)
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.sent += 1


@contextmanager
def canary(bench: BrokerBench) -> Iterator[Canary]:
    bird = Canary(bench)
    bird.start()
    try:
        yield bird
    finally:
        bird.end.set()
        bird.join(40)


def runs(bench: BrokerBench) -> int:
    return int(bench.notes.get("runs") or 0)


def push(bench: BrokerBench, raw: bytes) -> None:
    bench.broker.lpush("celery", raw)


@pytest.mark.parametrize("pool", POOLS)
def test_malformed_shapes(bench: BrokerBench, pool: str) -> None:
    """Each runs or is in quarantine byte for byte with its reason; the worker lives and answers within a second."""
    worker = bench.worker(*POOLS[pool], worker_prefetch_multiplier=4)
    sent = shapes()
    with canary(bench) as bird:
        for raw in sent.values():
            push(bench, raw)
            time.sleep(0.01)
        eventually(bench.settled, 30)
    eventually(bench.settled, 30)
    assert worker.running, worker.log_text()
    kept = {Entry.loads(line).raw: Entry.loads(line) for line in bench.quarantine()}
    assert kept.keys() <= set(sent.values())
    assert all(entry.reason and entry.queue == "celery" for entry in kept.values())
    ran = {name for name, raw in sent.items() if raw not in kept}
    assert ran == {
        "body args an object",
        "body embed a list",
        "body kwargs a list",
        "content encoding foreign",
        "delivery_tag a number",
        "no delivery_tag",
        "priority a text",
    }
    assert runs(bench) - bird.sent == len(ran)
    assert bird.slowest < 1


@pytest.mark.parametrize("pool", POOLS)
def test_changed_bytes(bench: BrokerBench, pool: str) -> None:
    """Seeded: 1,000 messages (BROKER_TEST_FLIPS for more), each ran or is kept, none ended the worker."""
    worker = bench.worker(*POOLS[pool], worker_prefetch_multiplier=16)
    with canary(bench) as bird:
        for number, raw in enumerate(flipped(FLIPS, SEED)):
            push(bench, raw)
            if number % 20 == 19:
                time.sleep(0.05)
        eventually(bench.settled, 120)
    eventually(bench.settled, 30)
    assert worker.running, worker.log_text()
    kept = bench.quarantine()
    assert len(kept) + runs(bench) - bird.sent == FLIPS
    assert len(kept) > FLIPS // 4
    assert bird.slowest < 1


def test_malformed_broadcasts(bench: BrokerBench) -> None:
    """What is published to every worker is dropped when nobody can take it; remote control goes on."""
    worker = bench.worker()
    app = bench.app("stock")
    assert app.control.ping(timeout=2)
    for name, raw in shapes().items():
        for channel in ("/0.celery.pidbox", "/0.celery.pidbox/", "/0.nobody.knows"):
            assert bench.broker.publish(channel, raw) >= 0, name
    eventually(lambda: app.control.ping(timeout=1), 10)
    assert worker.running, worker.log_text()
    assert "Connection to broker lost" not in worker.log_text()
    app.send_task("note", ["after"])
    eventually(lambda: "after" in bench.done(), 5)


def test_a_stock_channel_behind_the_guard(bench: BrokerBench) -> None:
    """The consumer stage alone, as where the channel could not be used: what it catches is kept, too."""
    worker = bench.worker(kind="stock", worker_consumer="broker.guard:GuardedConsumer")
    for task in ("unknown.task", "note"):
        message = task_message(f"of-{task}", "x", task=task)
        message["headers"]["timelimit"] = "soon" if task == "note" else None
        push(bench, json.dumps(message).encode())
    eventually(lambda: len(bench.quarantine()) == 2, 10)
    assert worker.running
    assert {Entry.loads(line).reason.split()[0] for line in bench.quarantine()} == {"unknown", "ValueError:"}
