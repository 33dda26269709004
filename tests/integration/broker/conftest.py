"""A Valkey for the tests of the channel alone, emptied before each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.brokers import BrokerBench, bench_on
from tests.support.servers import private_valkey
from workers.embedded import EmbeddedValkey


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedValkey]:
    with private_valkey() as server:
        yield server


@pytest.fixture
def bench(server: EmbeddedValkey) -> Iterator[BrokerBench]:
    server.start()
    with bench_on(server) as bench:
        bench.clear()
        yield bench


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Shows the end of each worker's log with a failed test."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    bench = getattr(item, "funcargs", {}).get("bench")
    if report.when == "call" and report.failed and isinstance(bench, BrokerBench):
        for process in bench.workers:
            report.sections.append((f"log of {process.name}", "\n".join(process.log_text().splitlines()[-40:])))
    return report  # type: ignore[return-value]
