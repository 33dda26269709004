from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from sqlalchemy import create_engine

from fanout.connection import connect
from fanout.hints import Hints
from fanout.keys import Keys
from fanout.publish import Publisher
from tasks.outbox_drain import Step
from workers import relay_loop
from workers.relay_loop import Relay


@pytest.fixture
def relay() -> Relay:
    client = connect("redis://127.0.0.1:1/0", name="test")
    engine = create_engine("postgresql+psycopg2://127.0.0.1:1/none")
    return Relay(engine, Publisher(client, Keys()), Hints(client), holder="test")


def test_a_horizon_that_stands_still_is_told_once(
    relay: Relay, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [100.0]
    monkeypatch.setattr(relay_loop, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with caplog.at_level(logging.INFO):
        for now[0] in (100.0, 109.0):
            relay._watch_horizon(Step(waiting=True))
        assert not caplog.records
        for now[0] in (111.0, 112.0):
            relay._watch_horizon(Step(waiting=True))
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        relay._watch_horizon(Step(published=3, more=True))
        relay._watch_horizon(Step())
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    for now[0] in (200.0, 205.0, 211.0):
        relay._watch_horizon(Step(published=1, waiting=True))  # it moves
    relay._watch_horizon(Step(waiting=True))
    assert len(caplog.records) == 2
