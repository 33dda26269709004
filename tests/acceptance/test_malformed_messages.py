"""Malformed messages end no worker of a fleet and are kept byte for byte (rows D-18, P-11) [T17]."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import text

from sessionfleet.errors import ValidationFailed
from tests.support import RunningFleet, eventually
from tests.support.letters import outcome, push
from tests.support.malformed import shapes


def test_every_malformed_message_becomes_a_row(fleet: RunningFleet) -> None:
    """Byte for byte, whatever it is; callers that can be named are answered; the fleet answers others meanwhile."""
    sent = {name: raw for name, raw in shapes("sessions", "session.list").items() if name != "empty"}
    for raw in sent.values():
        push(fleet, raw)
    began = time.monotonic()
    fleet.call("session.create")
    assert time.monotonic() - began < 20
    eventually(lambda: fleet.broker.llen("sessions") == 0)
    fleet.call("maintenance.drain_quarantine")
    with fleet.engine.connect() as db:
        kept = {bytes(raw) for (raw,) in db.execute(text("SELECT raw FROM message_dead_letters"))}
    assert {name for name, raw in sent.items() if raw not in kept} == {
        "body args an object",
        "body embed a list",
        "body kwargs a list",
        "content encoding foreign",
        "delivery_tag a number",
        "no delivery_tag",
        "priority a text",
    }, "these run, and are refused like any bad call"
    with pytest.raises(ValidationFailed):
        outcome(fleet, "shape eta nonsense")
    assert fleet.broker.llen("_fleet.quarantine") == 0
