"""How soon an idle worker starts what is sent to it (row P-11)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import takewhile
from uuid import uuid4

from celery import Celery
from sqlalchemy import text

from tests.support import RunningFleet, eventually
from tests.support.private import PrivateFleet
from tests.support.resting import fleet_at_rest

STOCK = "kombu.transport.redis:Transport"
"""As a process that knows nothing of the fleet has it."""

AT_ONCE = 0.6
"""Seconds: twenty times what is usual. Without a bell it is a second."""


def median(fleet: RunningFleet, work: Callable[[], object], tries: int = 15) -> float:
    """Seconds from sending to the answer, each time after all has come to rest."""
    times = []
    for _ in range(tries):
        fleet_at_rest(fleet)
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def test_a_plain_producer_starts_at_once(fleet: RunningFleet) -> None:
    """send_task of an unmodified Celery: the ringer in the relay's process rings for it."""
    urls = {"broker": fleet.settings.broker_url, "backend": fleet.settings.result_url}
    with Celery("elsewhere", set_as_current=False, broker_transport=STOCK, **urls) as app:
        app.send_task("session.count", queue="sessions").get(timeout=60)
        took = median(fleet, lambda: app.send_task("session.count", queue="sessions").get(timeout=60))
    assert took < AT_ONCE


def test_what_a_plain_producer_sends_and_forgets_starts_at_once(fleet: RunningFleet) -> None:
    """From before the sending to the transaction, by the clock of this machine; 50 ms are the goal on an idle one."""
    owner = f"at-once-{uuid4().hex[:8]}"
    sent: list[float] = []

    def started() -> list[float]:
        """Asked of the database: a message to the worker would wake it."""
        with fleet.engine.connect() as db:
            times = "SELECT extract(epoch FROM created_at) FROM sessions WHERE owner_id = :owner ORDER BY created_at"
            return [float(at) for at in db.execute(text(times), {"owner": owner}).scalars()]

    with Celery("elsewhere", set_as_current=False, broker=fleet.settings.broker_url, broker_transport=STOCK) as app:
        for _ in range(15):
            fleet_at_rest(fleet)
            sent.append(time.time())
            app.send_task("session.create", kwargs={"owner_id": owner}, queue="sessions", ignore_result=True)
            eventually(lambda: len(started()) == len(sent), 20)
    took = [at - began for at, began in zip(started(), sent, strict=True)]
    assert statistics.median(took) < AT_ONCE, took


def test_a_worker_that_will_soon_be_back_has_nobody_else_woken(fleet: RunningFleet) -> None:
    """By what the server was told: its mark, with which publishers do not ring (the client's test_publisher)."""
    session_id = fleet.call("session.create", status="active")["id"]
    with fleet.broker.monitor() as monitor:
        for _ in range(30):
            fleet.call("session.touch", session_id=session_id)
        fleet.broker.echo("over")
        told = [*takewhile("ECHO over".__ne__, (one["command"] for one in monitor.listen()))]
    assert any(command.startswith("SET _fleet.busy.sessions ") for command in told)


def test_without_a_ringer(private_fleet: PrivateFleet) -> None:
    """Our client rings itself, in one pipeline with its message; what nobody rings for waits a second at most."""
    fleet = private_fleet(relay=0)
    fleet.call("session.count")
    assert median(fleet, lambda: fleet.call("session.count")) < AT_ONCE
    with Celery("elsewhere", set_as_current=False, broker=fleet.settings.broker_url, broker_transport=STOCK) as app:
        app.send_task("session.create", queue="sessions", ignore_result=True)
    eventually(lambda: fleet.broker.llen("sessions") == 0)
