"""Real workers on the safe channel: killed, stopped, shared with stock ones, asked by remote control (row P-11)."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import stat
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path

import pytest

from broker import names
from tests.support import eventually
from tests.support.brokers import BrokerBench
from workers.home import ROOT
from workers.processes import ManagedProcess
from workers.supervisor.supervisor import process_environment

PREFORK = ("--pool", "prefork", "-c", "2")


def send(bench: BrokerBench, seconds: float, rate: float, task: str = "note", *args: object) -> list[str]:
    """Sends ``rate`` tasks a second for so long; their ids."""
    app, ids, until = bench.app(), [], time.monotonic() + seconds
    while time.monotonic() < until:
        ids.append(f"{task}-{len(ids)}-{random.random()}")
        app.send_task(task, [ids[-1], *args], ignore_result=True)
        time.sleep(random.expovariate(rate))
    return ids


def all_done(bench: BrokerBench, ids: list[str], within: float) -> None:
    eventually(lambda: set(ids) <= set(bench.done()), within)
    eventually(bench.settled, 20)


def test_killed_workers_lose_nothing(bench: BrokerBench) -> None:
    """Eight SIGKILLs of solo workers, idle and busy, under 100 messages a second: all done within 12 s [T1]."""
    options = {"broker_transport_options": {"dead_after": 4}, "worker_prefetch_multiplier": 4}
    workers = [bench.worker(wait=False, **options) for _ in range(2)]
    for worker in workers:
        bench.ready(worker)
    ids: list[str] = []
    for number in range(8):
        ids += send(bench, 0.7, 100, *(("nap", 0.02) if number % 2 else ("note",)))
        bench.kill(workers[number % 2])
        workers[number % 2] = bench.worker(wait=False, **options)
    all_done(bench, ids, 30)


@pytest.mark.parametrize(
    ("how", "pool"),
    [
        ("SIGTERM", ()),
        ("SIGTERM", PREFORK),
        ("SIGQUIT", ()),
        ("SIGQUIT", PREFORK),
    ],
)
def test_stopped_workers_give_back(bench: BrokerBench, how: str, pool: tuple[str, ...]) -> None:
    """Warm and cold stops under load: the worker ends in its time, everything is done, nothing stays unacknowledged
    longer than a moment, and after a warm stop nothing ran twice [T21]."""
    ids: list[str] = []
    for _ in range(2):
        worker = bench.worker(*pool, worker_prefetch_multiplier=4)
        ids += send(bench, 1.0, 60, "nap", 0.03)
        worker.kill(getattr(signal, how))
        worker.wait(15)
        assert bench.broker.hlen("unacked") == 0
        assert not bench.broker.exists(names.ALIVE)
    bench.worker(*pool)
    all_done(bench, ids, 30)
    if how == "SIGTERM":
        assert set(bench.done().values()) == {1}


def children_of(worker: ManagedProcess) -> list[int]:
    """The processes of its pool."""
    return [int(one) for one in Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()]


def unread(process: int) -> int:
    """Bytes that wait in the pipes it reads."""
    total = 0
    for file in Path(f"/proc/{process}/fd").iterdir():
        with suppress(OSError):
            if not str(file.readlink()).startswith("pipe:") or not file.lstat().st_mode & stat.S_IRUSR:
                continue
            pipe = os.open(file, os.O_RDONLY | os.O_NONBLOCK)  # the same pipe, seen once more
            try:
                total += struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]
            finally:
                os.close(pipe)
    return total


def test_a_stop_waits_for_what_a_child_was_given(bench: BrokerBench) -> None:
    """A message on its way into a child at the moment of a stop runs once, and nobody waits for anything else."""
    worker = bench.worker(*PREFORK)
    app = bench.app()
    for number in range(2):
        app.send_task("nap", [number, 0.5])
    all_done(bench, ["0", "1"], 30)  # at the same time: both children have come up
    children = children_of(worker)
    for child in children:
        os.kill(child, signal.SIGSTOP)
    assert not any(map(unread, children))
    app.send_task("note", ["late"])
    eventually(lambda: any(map(unread, children)))
    assert bench.broker.pubsub_numpat()
    worker.kill(signal.SIGTERM)
    eventually(lambda: not bench.broker.pubsub_numpat())  # the consumer has stopped; now the pool is to
    for child in children:
        os.kill(child, signal.SIGCONT)
    worker.wait(15)
    assert bench.done() == {"0": 1, "1": 1, "late": 1}
    assert bench.settled()


def test_a_child_killed_as_the_worker_starts_is_replaced(bench: BrokerBench) -> None:
    """The worker goes on with another [T2]."""
    worker = bench.worker(*PREFORK, kill_a_child=True)
    bench.app().send_task("note", ["first"])
    all_done(bench, ["first"], 30)
    assert worker.running
    assert "signal 9 (SIGKILL)" in worker.log_text()
    eventually(lambda: len(children_of(worker)) == 2, 15)


def test_a_soft_stop_hands_over(bench: BrokerBench) -> None:
    """A soft stop: what ends in its time is done, what does not is handed back, also ETAs [T21]."""
    worker = bench.worker(
        *PREFORK,
        worker_soft_shutdown_timeout=3,
        worker_enable_soft_shutdown_on_idle=True,
        worker_prefetch_multiplier=4,
    )
    app = bench.app()
    app.send_task("nap", ["short", 1])
    app.send_task("nap", ["long", 30])
    app.send_task("note", ["later"], countdown=600)
    eventually(lambda: bench.notes.hlen("started") == 2, 5)
    began = time.monotonic()
    worker.kill(signal.SIGQUIT)
    worker.wait(20)
    assert time.monotonic() - began < 8
    assert "short" in bench.done()
    assert bench.broker.hlen("unacked") == 0
    assert bench.broker.llen("celery") >= 2


def test_a_stock_worker_on_the_same_queue(bench: BrokerBench) -> None:
    """Both take and run; what a killed safe worker held the stock one runs too, and the other way round."""
    stock = bench.worker(kind="stock", broker_transport_options={"visibility_timeout": 5}, wait=False)
    safe = bench.worker(broker_transport_options={"dead_after": 2, "visibility_timeout": 5}, wait=False)
    bench.ready(stock)
    bench.ready(safe)
    all_done(bench, send(bench, 2, 50), 20)
    assert "succeeded" in stock.log_text()
    app = bench.app()
    for id_ in ("a", "b"):
        app.send_task("nap", [id_, 3])
    eventually(lambda: bench.notes.hlen("started") == 2, 5)
    bench.kill(safe)
    eventually(lambda: {"a", "b"} <= set(bench.done()), 20)
    bench.worker(broker_transport_options={"visibility_timeout": 5})
    app.send_task("nap", ["c", 3])
    app.send_task("nap", ["d", 3])
    eventually(lambda: bench.notes.hlen("started") == 4, 10)
    bench.kill(stock)
    eventually(lambda: {"c", "d"} <= set(bench.done()), 30)


def test_remote_control_sees_what_it_saw(bench: BrokerBench) -> None:
    """inspect and revoke from an unmodified client and from one with bells; slow tasks with a full prefetch do not
    keep a worker from answering."""
    workers = [bench.worker(*PREFORK, wait=False), bench.worker(worker_prefetch_multiplier=4, wait=False)]
    for worker in workers:
        bench.ready(worker)
    for kind in ("stock", "safe"):
        app = bench.app(kind)
        inspect = app.control.inspect(timeout=2)
        names_ = {"w1@bench", "w2@bench"}
        assert set(inspect.ping()) == names_
        assert set(inspect.active_queues()) == names_
        assert inspect.stats()["w1@bench"]["broker"]["transport"] == "redis"
    app = bench.app("stock")
    for number in range(40):
        app.send_task("nap", [number, 0.25])
    app.send_task("nap", ["much later", 0], countdown=600)
    eventually(lambda: app.control.inspect(timeout=1).active().get("w1@bench"), 10)
    eventually(lambda: any(app.control.inspect(timeout=1).scheduled().values()), 10)
    began = time.monotonic()
    assert set(app.control.inspect(timeout=2).reserved()) == {"w1@bench", "w2@bench"}
    assert time.monotonic() - began < 4
    app.control.cancel_consumer("celery", destination=["w2@bench"], reply=True, timeout=2)
    app.control.add_consumer("celery", destination=["w2@bench"], reply=True, timeout=2)
    eventually(lambda: len(bench.done()) == 40, 20)


def test_threads(bench: BrokerBench) -> None:
    """The threads pool: as many at once as it has, each acknowledged, a warm stop loses and repeats nothing."""
    worker = bench.worker("--pool", "threads", "-c", "4", worker_prefetch_multiplier=2)
    app = bench.app()
    began = time.monotonic()
    for number in range(16):
        app.send_task("nap", [number, 0.25])
    eventually(lambda: len(bench.done()) == 16, 10)
    assert time.monotonic() - began < 3
    eventually(bench.settled, 5)
    ids = send(bench, 1, 50, "nap", 0.05)
    worker.kill(signal.SIGTERM)
    worker.wait(15)
    bench.worker()
    all_done(bench, ids, 20)
    assert set(bench.done().values()) == {1}


def test_a_task_that_outlives_its_connection(bench: BrokerBench) -> None:
    """The connection is lost while a child works: the copy runs beside it, the late acknowledgement harms neither
    the worker nor the copy [T10]."""
    worker = bench.worker(*PREFORK)
    bench.app().send_task("nap", ["a", 3])
    eventually(lambda: bench.notes.hget("started", "a") == "1", 5)
    bench.broker.client_kill_filter(_type="normal", skipme=True)
    eventually(lambda: bench.done().get("a") == 2, 20)
    eventually(bench.settled, 5)
    assert worker.running
    assert "Traceback" not in worker.log_text()


def test_prefetch_disabled(bench: BrokerBench) -> None:
    """worker_disable_prefetch: no more messages taken than processes are free."""
    bench.worker(*PREFORK, worker_disable_prefetch=True, worker_prefetch_multiplier=8)
    app = bench.app()
    for number in range(6):
        app.send_task("nap", [number, 0.5])
    eventually(lambda: bench.notes.hlen("started") == 2, 5)
    assert bench.broker.hlen("unacked") <= 3
    eventually(lambda: len(bench.done()) == 6, 10)


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=process_environment({}),
        capture_output=True,
        text=True,
        check=False,
    )


CHECKS: dict[str, tuple[str, str]] = {
    "as it is": ("", "SafeTransport True"),
    "a name is gone": ("from kombu.transport import redis as r; del r.Channel._brpop_start;", "Transport False"),
    "another release": ("import kombu; kombu.VERSION = kombu.VERSION._replace(minor=8);", "Transport False"),
    "redis-py differs": ("import redis; redis.Connection = object;", "Transport False"),
}


@pytest.mark.parametrize("name", CHECKS)
def test_another_kombu_gets_the_stock_channel_and_an_alarm(name: str) -> None:
    """Each private name is checked before anything is replaced."""
    change, expected = CHECKS[name]
    result = python(
        f"{change}\nfrom broker.transport import install, uninstall\nimport kombu\n"
        "kombu.Connection('redis://').get_transport_cls()\ndone = install()\n"
        "print(kombu.Connection('redis://').get_transport_cls().__name__, done)\n"
        "uninstall()\nprint(kombu.Connection('rediss://').get_transport_cls().__name__)"
    )
    assert result.stdout.split("\n")[:2] == [expected, "Transport"], result.stderr
    assert ("messages can be lost" in result.stderr) == expected.endswith("False")
