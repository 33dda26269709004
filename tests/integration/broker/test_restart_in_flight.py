"""A worker lives through a restart of Redis that finds a task running (P-11)."""

from __future__ import annotations

from tests.support import eventually
from tests.support.private import PrivateFleet


def test_a_worker_with_a_running_task_goes_on(private_fleet: PrivateFleet) -> None:
    fleet = private_fleet(sessions=0, maintenance=1, relay=0)
    [worker] = fleet.of("maintenance")
    postgres, valkey = fleet.servers.postgres, fleet.servers.valkey
    assert postgres is not None
    assert valkey is not None
    fleet.call("maintenance.drain_outbox")

    postgres.pause()  # keeps the next task running
    fleet.client.send("maintenance.drain_outbox")
    eventually(lambda: fleet.broker.hlen("unacked") == 1)
    valkey.kill()
    eventually(lambda: "Connection to broker lost" in worker.log_text())
    valkey.start()
    postgres.resume()

    fleet.call("maintenance.drain_outbox", 60)
    assert worker.running, worker.log_text()
    assert "Unrecoverable" not in worker.log_text()
