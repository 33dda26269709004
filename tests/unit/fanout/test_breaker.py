from __future__ import annotations

import logging

import pytest

from fanout.breaker import Breaker, breaker_of
from fanout.connection import connect


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_closed_lets_everything_through() -> None:
    breaker = Breaker()
    assert [breaker.allows() for _ in range(3)] == [True] * 3
    breaker.succeeded()
    assert not breaker.is_open


def test_after_a_failure_callers_skip_for_the_rest_then_one_probes() -> None:
    clock = Clock()
    breaker = Breaker(rest=1.0, clock=clock)
    breaker.failed(ConnectionError("gone"))
    clock.now += 0.99
    assert [breaker.allows() for _ in range(3)] == [False] * 3
    clock.now += 0.02
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    breaker.failed(ConnectionError("still gone"))
    assert not breaker.allows()
    clock.now += 1.0
    assert breaker.allows()
    breaker.succeeded()
    assert [breaker.allows() for _ in range(3)] == [True] * 3
    assert (breaker.failures, breaker.skipped) == (2, 6)


def test_an_outage_is_logged_once_at_each_end(caplog: pytest.LogCaptureFixture) -> None:
    breaker = Breaker()
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            breaker.failed(ConnectionError("gone"))
        breaker.succeeded()
        breaker.succeeded()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_one_breaker_for_each_client() -> None:
    one, other = (connect("redis://127.0.0.1:1/0", name="test") for _ in range(2))
    assert breaker_of(one) is breaker_of(one)
    assert breaker_of(one) is not breaker_of(other)
