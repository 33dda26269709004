"""Workers that have nothing to do, by what their Redis says of them."""

from __future__ import annotations

import redis

from tests.support.running import WORKERS, RunningFleet
from tests.support.waiting import eventually


def at_rest(broker: redis.Redis, workers: int) -> None:
    """Waits until so many consumers of the queues in this database wait for a bell, all acknowledged behind them."""
    number = str(broker.connection_pool.connection_kwargs["db"])

    def waiting() -> bool:
        clients = [one for one in broker.client_list() if one["db"] == number]
        return sum(one["cmd"] == "brpop" and "b" in one["flags"] for one in clients) >= workers

    eventually(waiting, every=0.005)


def fleet_at_rest(fleet: RunningFleet) -> None:
    """The same for every worker of a fleet."""
    at_rest(fleet.broker, sum(len(fleet.of(line)) for line in WORKERS))
