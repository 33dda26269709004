"""The emit_event verb and its words (rows D-04, D-05)."""

from __future__ import annotations

from typing import Any

import pytest

from sessionfleet import messages as m
from sessionfleet.errors import EventLimit, InvalidTransition, PayloadTooLarge, SessionExpired, ValidationFailed
from sessions.emission import emit_event
from tests.support.records import NOW, context, record, seconds, settled

CHANGE = {"elementType": "component", "entityIds": ["Button", "Form"], "operation": "modify", "affectedLines": [3, 9]}


def message(**arguments: Any) -> m.EmitEvent:
    return m.EmitEvent.parse({"session_id": "x", "type": "fixed", **arguments})


def test_an_event_keeps_every_part_under_its_wire_name() -> None:
    """D-04."""
    transition = {"from": "broken", "to": "working", "verifiedBy": "test-suite", "confidence": 0.95}
    impact = {"severity": "high", "testsFailed": ["t1"], "perfDelta": -25, "externalRef": "PR-7"}
    command = message(change_info=CHANGE, state_transition=transition, impact=impact, payload={"note": "ok"})
    [event] = emit_event(record(), command, context()).events
    assert event.name == "fixed"
    assert event.payload == {
        "note": "ok",
        "change_info": CHANGE,
        "state_transition": transition,
        "impact": impact,
    }
    assert event.entity_ids == ["Button", "Form"]


def test_the_answer_is_the_seq() -> None:
    """D-04: Returns seq."""
    change = emit_event(record(), message(), context())
    done = settled(record(), change, context())
    assert change.answer is not None
    assert change.answer(done.record)["seq"] == done.events[0]["seq"] == 3


@pytest.mark.parametrize(("reset_ttl", "rest"), [(True, 1850), (False, 1800)])
def test_reset_ttl_decides_whether_it_is_activity(reset_ttl: bool, rest: int) -> None:
    """D-04, E-02."""
    ctx = context(NOW + seconds(50))
    row = settled(record(), emit_event(record(), message(reset_ttl=reset_ttl), ctx), ctx).record
    assert row.expires_at == NOW + seconds(rest)


def test_publish_and_auto_checkpoint_travel_with_the_event() -> None:
    """D-04."""
    [event] = emit_event(record(), message(publish=False, auto_checkpoint=False), context()).events
    assert event.publish is False
    assert event.metadata == {"auto_checkpoint": False}


@pytest.mark.parametrize("word", ["fixed", "a", "test-suite", "under_score", "v2", "w" * 64])
def test_open_words_are_taken(word: str) -> None:
    """D-05: known or not."""
    info = {"elementType": word, "operation": word}
    assert message(type=word, change_info=info, state_transition={"to": word, "verifiedBy": word}).type == word


@pytest.mark.parametrize("word", ["", "Fixed", "zwölf", "a b", "w" * 65, "a\n", "a/b"])
def test_anything_else_is_no_word(word: str) -> None:
    """D-05: [a-z0-9_-]{1,64}, and a dot in a type."""
    for arguments in (
        {"type": word},
        {"change_info": {"elementType": word, "operation": "x"}},
        {"change_info": {"elementType": "x", "operation": word}},
        {"state_transition": {"to": "x", "verifiedBy": word}},
    ):
        with pytest.raises(ValidationFailed):
            message(**arguments)


@pytest.mark.parametrize("severity", ["low", "medium", "high", "critical"])
def test_the_four_severities(severity: str) -> None:
    """D-05."""
    command = message(impact={"severity": severity})
    assert command.impact is not None
    assert command.impact.severity == severity


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"impact": {"severity": "huge"}}, "impact.severity"),
        ({"impact": {"severity": "low", "perfDelta": float("nan")}}, "impact.perfDelta"),
        ({"impact": {"severity": "low", "perfDelta": float("inf")}}, "impact.perfDelta"),
        ({"state_transition": {"to": "working", "confidence": 1.01}}, "state_transition.confidence"),
        ({"state_transition": {"to": "working", "confidence": -0.01}}, "state_transition.confidence"),
        ({"state_transition": {"from": "broken"}}, "state_transition.to"),
        ({"change_info": {"operation": "x"}}, "change_info.elementType"),
        ({"change_info": {**CHANGE, "colour": "red"}}, "change_info.colour"),
        ({"payload": {"at": float("nan")}}, "payload"),
        ({"payload": []}, "payload"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_does_not_fit_is_named(arguments: dict[str, Any], field: str) -> None:
    """D-04, D-05."""
    with pytest.raises(ValidationFailed) as refused:
        message(**arguments)
    assert [entry["field"] for entry in refused.value.details["fields"]] == [field]


def test_an_event_above_its_limit_is_refused_with_size_and_limit() -> None:
    """B-08: measured with all its parts."""
    frame = len('{"note":""}')
    emit_event(record(), message(payload={"note": "x" * (1048576 - frame)}), context())
    with pytest.raises(PayloadTooLarge) as refused:
        emit_event(record(), message(payload={"note": "x" * (1048577 - frame)}), context())
    assert refused.value.details == {"field": "payload", "size": 1048577, "limit": 1048576}


def test_an_ended_session_takes_no_event() -> None:
    """D-04: neither an ended nor an expired one."""
    with pytest.raises(InvalidTransition):
        emit_event(record(status="completed"), message(), context())
    with pytest.raises(SessionExpired):
        emit_event(record(status="expired", expires_at=NOW), message(), context())


def test_the_event_limit_refuses_or_lets_the_stream_roll() -> None:
    """D-16: with reject, event 11 of 10; with window, the default, the Stream alone is bounded."""
    full, room = record(max_events=10, last_seq=10), record(max_events=10, last_seq=9)
    assert emit_event(full, message(), context()).events
    assert emit_event(room, message(), context(event_limit_policy="reject")).events
    with pytest.raises(EventLimit) as refused:
        emit_event(full, message(), context(event_limit_policy="reject"))
    assert refused.value.details == {"session_id": str(full.id), "limit": 10}
