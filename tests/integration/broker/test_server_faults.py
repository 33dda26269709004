"""Servers that refuse, forget, freeze or are only half there: workers live on, nothing is lost (rows P-10, P-11)."""

from __future__ import annotations

import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from kombu import Producer
from redis.exceptions import ResponseError

from broker import names
from tests.support import eventually
from tests.support.brokers import BrokerBench
from tests.support.looping import looping
from tests.support.proxy import proxy
from workers.embedded import EmbeddedValkey
from workers.processes import ManagedProcess


def publish(bench: BrokerBench, *bodies: Any) -> None:
    with bench.connection() as connection:
        producer = Producer(connection.default_channel, serializer="json")
        for body in bodies:
            producer.publish(body, exchange="", routing_key="q")


def ack(message: Any) -> None:
    message.ack()


def runs(bench: BrokerBench, *ids: str, within: float) -> float:
    """Sends tasks and waits until they ran once each; seconds it took."""
    began = time.monotonic()
    app = bench.app()
    for id_ in ids:
        app.send_task("note", [id_])
    eventually(lambda: set(ids) <= set(bench.done()), within)
    return time.monotonic() - began


def lives(process: ManagedProcess) -> None:
    assert process.running, process.log_text()


def test_scripts_are_forgotten(bench: BrokerBench) -> None:
    """SCRIPT FLUSH, while idle and while busy: noticed by its error and sent anew, acknowledgements with it."""
    with looping(bench.connection(), "q", prefetch=2) as consumer:
        consumer.on_message = ack
        consumer.idle()
        for number in range(5):
            bench.broker.script_flush()
            publish(bench, number)
            consumer.until(lambda number=number: len(consumer.received) == number + 1)
            bench.broker.script_flush()
        consumer.idle()
        assert bench.settled()


@pytest.mark.parametrize("key", ["q", names.QUARANTINE, "unacked", "unacked_index"])
def test_a_key_of_another_type_costs_no_message(bench: BrokerBench, key: str) -> None:
    """The script fails before it takes anything; mended, all goes on."""
    publish(bench, "a")
    kept = bench.broker.dump("q")
    with looping(bench.connection(), "q") as consumer:
        consumer.on_message = ack
        bench.broker.delete(key)
        bench.broker.set(key, "text")
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            consumer.until(lambda: consumer.received)
        bench.broker.delete(key)
        bench.broker.restore("q", 0, kept, replace=True)
        consumer.until(lambda: consumer.received)
        consumer.idle()


def test_a_full_server_is_emptied(bench: BrokerBench) -> None:
    """maxmemory reached: publishers get an error, consumers that are there go on taking and acknowledging [T9]."""
    publish(bench, *range(20))
    with looping(bench.connection(), "q", prefetch=3) as consumer:
        try:
            bench.broker.config_set("maxmemory", 1)
            with pytest.raises(ResponseError, match="maxmemory"):
                publish(bench, "refused")
            consumer.on_message = lambda message: ack(message) if len(consumer.received) > 1 else message.requeue()
            consumer.until(lambda: len(consumer.received) == 21)
            assert sorted(consumer.bodies[1:]) == list(range(20))
        finally:
            bench.broker.config_set("maxmemory", 0)


def test_workers_live_through_readonly_and_oom(bench: BrokerBench) -> None:
    """READONLY, OOM, a killed script cache, all connections killed: no exit, and work goes on within 5 s [T9]."""
    workers = [bench.worker(wait=False), bench.worker("--pool", "prefork", "-c", "2", wait=False)]
    for worker in workers:
        bench.ready(worker)
    runs(bench, "before", within=10)
    bench.broker.replicaof("127.0.0.1", 1)
    time.sleep(4)  # the fault has to last
    bench.broker.replicaof("NO", "ONE")
    assert runs(bench, "readonly-1", "readonly-2", within=30) < 5 + 3
    bench.broker.config_set("maxmemory", 1)
    time.sleep(3)
    bench.broker.config_set("maxmemory", 0)
    assert runs(bench, "oom-1", "oom-2", within=30) < 5
    bench.broker.script_flush()
    bench.broker.client_kill_filter(_type="normal", skipme=True)
    assert runs(bench, "killed-1", "killed-2", within=30) < 5
    for worker in workers:
        lives(worker)
    eventually(bench.settled, 20)


def test_killed_connections(bench: BrokerBench) -> None:
    """CLIENT KILL each second while tasks run, idle and busy: each runs to its end, nothing is lost [T10]."""
    bench.worker(worker_prefetch_multiplier=4)
    bench.worker("--pool", "prefork", "-c", "2")
    app = bench.app()
    ids = [f"n{number}" for number in range(60)]
    for number, id_ in enumerate(ids):
        app.send_task("nap", [id_, 0.05])
        time.sleep(0.1)
        if number % 10 == 9:
            bench.broker.client_kill_filter(_type="normal", skipme=True)
    eventually(lambda: set(ids) <= set(bench.done()), 60)
    eventually(bench.settled, 30)


def test_the_server_restarts(bench: BrokerBench, server: EmbeddedValkey) -> None:
    """SIGKILL of the server and its restart, five times under load: nothing lost, work goes on within 5 s [T5]."""
    bench.worker()
    bench.worker("--pool", "prefork", "-c", "2")
    sent: list[str] = []
    longest = 0.0
    for round_ in range(5):
        app = bench.app()
        for number in range(20):
            sent.append(f"{round_}-{number}")
            app.send_task("nap", [sent[-1], 0.01])
        app.close()
        server.kill()
        server.start()
        began = time.monotonic()
        runs(bench, f"canary-{round_}", within=30)
        longest = max(longest, time.monotonic() - began)
    eventually(lambda: set(sent) <= set(bench.done()), 60)
    eventually(bench.settled, 30)
    assert longest < 8


def test_connections_are_cut_at_any_byte(bench: BrokerBench, server: EmbeddedValkey) -> None:
    """Answers end after 0..400 bytes and the connection with them: nothing is lost [T11]."""
    with proxy(server.port) as way:
        url = bench.url.replace(f":{server.port}/", f":{way.port}/")
        worker = bench.worker(url=url, worker_prefetch_multiplier=4, broker_transport_options={"dead_after": 3})
        app = bench.app()
        ids = [f"n{number}" for number in range(40)]
        for number, id_ in enumerate(ids):
            app.send_task("note", [id_])
            if number % 4 == 0:
                way.after = number * 10
            time.sleep(0.1)
        way.after = None
        eventually(lambda: set(ids) <= set(bench.done()), 60)
        lives(worker)
        eventually(bench.settled, 30)


@pytest.mark.parametrize("fault", ["frozen", "deaf", "slow"])
def test_half_a_connection(bench: BrokerBench, server: EmbeddedValkey, fault: str) -> None:
    """Nothing passes, or no answer does, for 12 s: within 15 s of the end work goes on and nothing is lost [T11]."""
    with proxy(server.port) as way:
        url = bench.url.replace(f":{server.port}/", f":{way.port}/")
        worker = bench.worker(url=url, broker_transport_options={"dead_after": 3})
        runs(bench, "before", within=10)
        app = bench.app()
        ids = [f"n{number}" for number in range(10)]
        if fault == "frozen":
            way.freeze()
        way.deaf = fault == "deaf"
        way.delay = 0.1 if fault == "slow" else 0
        for id_ in ids:
            app.send_task("note", [id_])
        if fault != "slow":
            time.sleep(12)
            way.deaf = False
            way.thaw()
        assert runs(bench, "after", within=40) < 15
        eventually(lambda: set(ids) <= set(bench.done()), 30)
        lives(worker)
        eventually(bench.settled, 30)


def test_the_server_freezes(bench: BrokerBench, server: EmbeddedValkey) -> None:
    """SIGSTOP for 10 s: the worker lives, and works within 5 s of the end [T7, the workers' side]."""
    worker = bench.worker()
    runs(bench, "before", within=10)
    server.pause()
    time.sleep(10)
    server.resume()
    assert runs(bench, "after", within=30) < 5
    lives(worker)


def test_over_tls(bench: BrokerBench, server: EmbeddedValkey, tmp_path: Path) -> None:
    """rediss://, with messages larger than a TLS record: a worker and a consumer of this process."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    request = f"req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -keyout {key} -out {certificate}"
    command = ["openssl", *request.split(), "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with proxy(server.port, context) as way:
        url = bench.url.replace("redis://", "rediss://").replace(f":{server.port}/", f":{way.port}/")
        url += f"?ssl_cert_reqs=required&ssl_ca_certs={certificate}"
        bench.worker(url=url)
        runs(bench, *(f"n{number}" for number in range(20)), within=20)
        publish(bench, *("x" * size for size in (10, 100_000, 3_000_000)))
        with looping(bench.connection(url=url), "q", prefetch=10) as consumer:
            consumer.on_message = ack
            consumer.until(lambda: len(consumer.received) == 3, timeout=10)
            assert [len(body) for body in consumer.bodies] == [10, 100_000, 3_000_000]


def test_no_socket_is_left_open(bench: BrokerBench, server: EmbeddedValkey) -> None:
    """Fifty connections killed under one worker: as many connections and files at the end as at the beginning."""
    worker = bench.worker()
    runs(bench, "before", within=10)

    def files() -> int:
        return len(list(Path(f"/proc/{worker.pid}/fd").iterdir()))

    before = files()
    for round_ in range(10):
        bench.broker.client_kill_filter(_type="normal", skipme=True)
        runs(bench, f"n{round_}", within=30)
    eventually(lambda: files() <= before + 3, 10)
