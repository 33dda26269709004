"""Fixtures of the whole suite: real servers and real processes, started with the project's own code."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support.months import database, empty_database, stranger  # noqa: F401 - fixtures
from tests.support.private import PrivateFleet, private_fleets
from tests.support.running import OPEN, STUBBORN, RunningFleet
from tests.support.servers import Servers, embedded_servers, external_servers
from tests.support.telling import FAILURES, Telling

# A shell that starts us in the background has us, and so all we start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says nothing on a machine that is busy with other things. A run for others to build
# on (CI=true) draws the same examples each time; at home every run tries new ones.
settings.register_profile(
    "fleet", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("fleet")


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """PostgreSQL and Redis of this run: embedded, or those of FLEET_DATABASE_URL and FLEET_REDIS_URL."""
    servers = external_servers() or embedded_servers()
    yield servers
    servers.close()


@pytest.fixture(scope="session")
def fleet(servers: Servers) -> Iterator[RunningFleet]:
    """The fleet that most tests share: two sessions workers, one maintenance worker, one relay.

    Its tables fill up over the run: a test looks at its own sessions only, and stops nothing.
    """
    fleet = RunningFleet(servers)
    try:
        started = [fleet.start(line, wait=False) for line in SHARED]
        for process in started:
            fleet.ready(process)
        yield fleet
    finally:
        fleet.close()


@pytest.fixture
def private_fleet() -> Iterator[PrivateFleet]:
    """Makes fleets with servers of their own, always embedded, for tests that break things.

    ``private_fleet(sessions=1, maintenance=0, relay=1, beat=0, **env)`` starts that many processes of each
    line; servers are ``fleet.servers.postgres`` and ``.valkey`` with ``kill``, ``pause``, ``stop``, ``start``.
    """
    with private_fleets() as make:
        yield make


SHARED = ("sessions", "sessions", "maintenance", "relay")
TELLING = Telling()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Shows the end of each process's log with a test that failed, before what the test itself printed."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.failed:
        processes = [process for fleet in OPEN for process in fleet.processes]
        tails = ["\n".join(process.log_text().splitlines()[-25:]) for process in processes]
        heads = [f"log of {process.name} ({number})" for number, process in enumerate(processes)]
        report.sections[:0] = zip(heads, tails, strict=True)
    return report  # type: ignore[return-value]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    TELLING.note(report)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process that runs a part of the suite hands over what its own summary would have said."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["stubborn"] = STUBBORN
    elif (cache := getattr(session.config, "cache", None)) is not None:
        cache.set(FAILURES, TELLING.reasons)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """What a part of the suite handed over; nothing when its process died."""
    STUBBORN.extend(getattr(node, "workeroutput", {}).get("stubborn", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Names the processes that had to be killed when their fleet was closed, and where the time went."""
    for line in STUBBORN:
        terminalreporter.write_line(f"had to be killed: {line}")
    for line in TELLING.lines():
        terminalreporter.write_line(line)
