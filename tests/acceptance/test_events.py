"""The event log of a session through real workers (rows D-01, D-04, D-05, D-13)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from sessionfleet.errors import SessionNotFound, ValidationFailed
from tests.support import RunningFleet
from tests.support.crowd import at_once


def new(fleet: RunningFleet, **arguments: Any) -> str:
    return str(fleet.call("session.create", **arguments)["id"])


def emit(fleet: RunningFleet, session_id: str, type_: str = "note", **arguments: Any) -> Any:
    return fleet.call("session.emit_event", session_id=session_id, type=type_, **arguments)


def events(fleet: RunningFleet, session_id: str, **arguments: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = fleet.call("session.get_events", session_id=session_id, **arguments)["items"]
    return found


def seqs(fleet: RunningFleet, session_id: str, **arguments: Any) -> list[int]:
    return [event["seq"] for event in events(fleet, session_id, **arguments)]


def test_parallel_emits_leave_no_gap_and_a_later_worker_goes_on(fleet: RunningFleet) -> None:
    """AT-D1 [D-01]: 10 emits from 3 workers at once, then as many from all of them and one started later.

    Every worker of the second round holds one of its messages: as many wait for the row as there are.
    """
    session_id = new(fleet)
    notes = [("session.emit_event", {"type": "note", "payload": {"n": n}}) for n in range(10)]
    answers = at_once(fleet, session_id, notes, workers=3)
    assert sorted(answer["seq"] for answer in answers) == list(range(2, 12))
    assert seqs(fleet, session_id) == list(range(1, 12))
    by_seq = {event["seq"]: event["payload"]["n"] for event in events(fleet, session_id, after_seq=1)}
    assert by_seq == {answer["seq"]: n for n, answer in enumerate(answers)}

    crowd = len(fleet.of("sessions"))
    late = fleet.start("sessions")
    try:
        answers = at_once(fleet, session_id, notes, workers=crowd + 1)
    finally:
        late.stop(30)
    assert sorted(answer["seq"] for answer in answers) == list(range(12, 22))
    assert seqs(fleet, session_id) == list(range(1, 22))


def test_seq_ranges_and_the_last_ones(fleet: RunningFleet) -> None:
    """AT-D10 [D-13]: 3..5 of 10 are three, the last three are three, none is a marker."""
    session_id = new(fleet)
    for number in range(9):
        emit(fleet, session_id, payload={"number": number})
    assert seqs(fleet, session_id, after_seq=2, before_seq=6) == [3, 4, 5]
    assert seqs(fleet, session_id, order="desc", limit=3) == [10, 9, 8]
    assert [event["event_name"] for event in events(fleet, session_id, after_seq=7)] == ["note"] * 3


def test_a_cursor_walks_the_log_in_either_direction(fleet: RunningFleet) -> None:
    """D-13: next_cursor is the seq to go on from; None at the end."""
    session_id = new(fleet)
    for _ in range(6):
        emit(fleet, session_id)
    walked, page = [], fleet.call("session.get_events", session_id=session_id, limit=3)
    while True:
        walked.append([event["seq"] for event in page["items"]])
        assert page["last_seq"] == 7
        if page["next_cursor"] is None:
            break
        page = fleet.call("session.get_events", session_id=session_id, limit=3, after_seq=page["next_cursor"])
    assert walked == [[1, 2, 3], [4, 5, 6], [7]]
    back = fleet.call("session.get_events", session_id=session_id, limit=4, order="desc")
    assert back["next_cursor"] == 4
    assert seqs(fleet, session_id, order="desc", before_seq=4) == [3, 2, 1]
    for order, wanted in (("asc", [1, 2, 3, 4, 5, 6, 7]), ("desc", [7, 6, 5, 4, 3, 2, 1])):
        every = fleet.client.iterate("session.get_events", session_id=session_id, limit=2, order=order)
        assert [event["seq"] for event in every] == wanted


def test_filters_by_type_actor_and_time(fleet: RunningFleet) -> None:
    """D-13: types, agents, since and until select exactly."""
    session_id = new(fleet, actor="ada")
    for type_, actor in (("a", "ada"), ("b", "bob"), ("a", "bob")):
        emit(fleet, session_id, type_, actor=actor)
    assert seqs(fleet, session_id, types=["a"]) == [2, 4]
    assert seqs(fleet, session_id, agents=["bob"]) == [3, 4]
    assert seqs(fleet, session_id, types=["a", "b"], agents=["bob"]) == [3, 4]
    third = datetime.fromisoformat(events(fleet, session_id)[2]["timestamp"])
    assert seqs(fleet, session_id, since=third) == [3, 4]
    assert seqs(fleet, session_id, until=third) == [1, 2]
    assert seqs(fleet, session_id, since=third + timedelta(hours=1)) == []


def test_every_part_of_an_event_comes_back(fleet: RunningFleet) -> None:
    """AT-D11, first part [D-04 D-05]: word `fixed`, unknown to anyone, is stored with all its parts."""
    session_id = new(fleet)
    parts: dict[str, Any] = {
        "change_info": {
            "elementType": "component",
            "entityIds": ["Button"],
            "operation": "refactor",
            "affectedLines": [10, 20],
            "semanticHash": "a1b2",
        },
        "state_transition": {"from": "broken", "to": "working", "verifiedBy": "test-suite", "confidence": 0.95},
        "impact": {"severity": "high", "testsFailed": [], "perfDelta": -25.5, "externalRef": "PR-7"},
    }
    answer = emit(fleet, session_id, "fixed", actor="agent-b", payload={"note": "grün"}, **parts)
    [event] = events(fleet, session_id, after_seq=1)
    assert answer["seq"] == event["seq"] == 2
    assert (event["event_name"], event["event_type"], event["actor"]) == ("fixed", "fixed", "agent-b")
    assert event["payload"] == {"note": "grün", **parts}


def test_severity_is_a_closed_word_and_nothing_is_written_for_another(fleet: RunningFleet) -> None:
    """AT-D11, second part [D-05]: `huge` is refused with the field named."""
    session_id = new(fleet)
    for impact in ({"severity": "huge"}, {"severity": "low", "perfDelta": "fast"}):
        with pytest.raises(ValidationFailed, match="impact"):
            emit(fleet, session_id, impact=impact)
    with pytest.raises(ValidationFailed, match="type"):
        emit(fleet, session_id, "Not A Word")
    assert seqs(fleet, session_id) == [1]


def test_expected_version_never_refuses_an_append(fleet: RunningFleet) -> None:
    """B-02: events, output and counters are appends, whatever version their caller has seen."""
    session_id = new(fleet)
    fleet.call("session.start", session_id=session_id)
    stale = 1
    assert emit(fleet, session_id, expected_version=stale)["seq"] == 3
    for name, arguments in (
        ("session.append_output", {"content": "x"}),
        ("session.update_metrics", {"metrics": {"api_call_count": 1}}),
        ("session.update", {"mode": "append", "context": {"log": ["x"]}}),
        ("session.touch", {}),
    ):
        fleet.call(name, session_id=session_id, expected_version=stale, **arguments)
    document = fleet.call("session.get", session_id=session_id)
    assert document["metrics"] == {"api_call_count": 1}
    assert document["context"] == {"log": ["x"]}


@pytest.mark.parametrize(("reset_ttl", "moved"), [(True, True), (False, False)])
def test_reset_ttl_decides_whether_an_event_is_activity(fleet: RunningFleet, reset_ttl: bool, moved: bool) -> None:
    """D-04 [E-02]."""
    session_id = new(fleet)
    before = fleet.call("session.get", session_id=session_id)["expires_at"]
    emit(fleet, session_id, reset_ttl=reset_ttl)
    assert (fleet.call("session.get", session_id=session_id)["expires_at"] > before) is moved


def test_events_of_nobody(fleet: RunningFleet) -> None:
    """D-13 [A-12]: an unknown id is an error, never an empty log."""
    with pytest.raises(SessionNotFound):
        events(fleet, "nobody")
    with pytest.raises(SessionNotFound):
        emit(fleet, "nobody")
    for limit in (0, 1001):
        with pytest.raises(ValidationFailed, match="limit"):
            events(fleet, "nobody", limit=limit)
