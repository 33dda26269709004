"""Events as subscribers see them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from sessionfleet.event import Event, event_in

ENVELOPE = {
    "event_id": "e",
    "event_name": "session.paused",
    "event_type": "session.updated",
    "session_id": "s",
    "seq": 3,
    "timestamp": "2026-01-02T03:04:05+00:00",
    "actor": "me",
    "payload": {"reason": "lunch"},
    "metadata": {},
    "stream_id": "7-9",
}


def test_an_envelope_has_attributes_and_stays_whole() -> None:
    event = Event.of(ENVELOPE)
    assert (event.event_name, event.event_type, event.seq, event.actor) == (
        "session.paused",
        "session.updated",
        3,
        "me",
    )
    assert event.timestamp == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert event.payload == {"reason": "lunch"}
    assert event.stream_id == "7-9"
    assert event.raw == ENVELOPE


@pytest.mark.parametrize("name", ["completed", "terminated", "failed", "expired", "deleted"])
def test_the_end_is_known(name: str) -> None:
    assert Event.of(ENVELOPE | {"event_name": f"session.{name}"}).is_last


@pytest.mark.parametrize("name", ["crashed", "interrupted", "archived", "paused"])
def test_what_can_go_on_is_not_the_end(name: str) -> None:
    assert not Event.of(ENVELOPE | {"event_name": f"session.{name}"}).is_last


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"hello",
        b"[]",
        b"null",
        b"{}",
        json.dumps(ENVELOPE | {"seq": "three"}).encode(),
        json.dumps(ENVELOPE | {"timestamp": "yesterday"}).encode(),
        json.dumps({**ENVELOPE, "session_id": "s", "seq": None}).encode(),
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"event_name": "x", "session_id": "s", "seq": Infinity}',
    ],
    ids=lambda text: repr(text[:40]),
)
def test_what_is_no_event_is_passed_over(text: bytes) -> None:
    assert event_in(text) is None


def test_an_event_of_a_newer_fleet_is_read() -> None:
    event = event_in(json.dumps(ENVELOPE | {"event_name": "session.dreamt", "mood": 1}))
    assert event is not None
    assert event.event_name == "session.dreamt"


def test_marks_are_no_events() -> None:
    ping, replay_end, end = (
        Event.mark("ping", "s", 4),
        Event.mark("replay_end", "s", 4),
        Event.mark("end", "s", 4, reason="closed"),
    )
    assert all(mark.is_mark and mark.seq == 4 for mark in (ping, replay_end, end))
    assert (ping.is_ping, replay_end.is_replay_end, end.is_end) == (True, True, True)
    assert (ping.reason, replay_end.reason, end.reason) == (None, None, "closed")
    for word in ("session.paused", "ping", "replay_end", "end"):
        event = Event.of(ENVELOPE | {"event_name": word})
        assert not (event.is_mark or event.is_ping or event.is_replay_end or event.is_end or event.reason)
