"""Workers whose way to Redis is cut, frozen, deaf or slow, under load (rows P-10, P-11) [T11].

Longer faults, TLS and cuts at each byte, on the channel alone: ``tests/integration/broker/test_server_faults.py``.
"""

from __future__ import annotations

import random
import time
from urllib.parse import urlsplit

from tests.chaos.kills import Load, OfFleet, resume, settle
from tests.support.private import PrivateFleet
from tests.support.proxy import Proxy, proxy
from tests.support.waiting import eventually

RESUME = 40.0
"""Seconds until work goes on; a connection without answers is given up after 6 to 16."""


def cut(way: Proxy) -> None:
    """Five connections end one after the other, each somewhere in the middle of what the server says; then all."""
    choice = random.Random(11)
    for _ in range(5):
        way.after = choice.randrange(1, 400)
        eventually(lambda: way.after is None)
    way.cut()


def freeze(way: Proxy) -> None:
    way.freeze()
    time.sleep(3)
    way.thaw()


def deafen(way: Proxy) -> None:
    """Half open: what is sent arrives, no answer does, longer than a worker waits for one. Not for as long as it says
    so: one that was just publishing its events tries that again and again, and says nothing meanwhile."""
    way.deaf = True
    time.sleep(7)
    way.deaf = False


def slow_down(way: Proxy) -> None:
    way.delay = 0.1
    time.sleep(2)
    way.delay = 0


def test_a_bad_way_costs_no_message(private_fleet: PrivateFleet) -> None:
    """Nothing is lost or doubled, the worker lives and works again soon after each fault."""
    fleet = private_fleet(sessions=0, relay=0)
    target = OfFleet(fleet)
    with proxy(urlsplit(target.url).port or 0) as way:
        through = target.url.replace(f":{urlsplit(target.url).port}/", f":{way.port}/")
        worker = fleet.start("sessions", FLEET_BROKER_URL=through)
        load = Load(target.url, target.task, target.queue, rate=10)
        load.start()
        resumed = {}
        try:
            for fault in (cut, freeze, deafen, slow_down):
                fault(way)
                resumed[fault.__name__] = resume(target, load)
        finally:
            load.stop()
        outcome = settle(target, load, 4)
        assert (outcome.lost, outcome.doubled) == ([], [])
        assert max(resumed.values()) < RESUME, resumed
        assert worker.running
