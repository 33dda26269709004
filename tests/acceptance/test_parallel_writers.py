"""Many writers on one session, from several worker processes (rows D-01, B-02, invariant 3)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sessionfleet.errors import FleetError
from tests.support import RunningFleet
from tests.support.crowd import at_least, at_once

WRITERS = 10


def new(fleet: RunningFleet, **arguments: Any) -> str:
    return str(fleet.call("session.create", status="active", **arguments)["id"])


def log(fleet: RunningFleet, session_id: str) -> list[dict[str, Any]]:
    events = fleet.call("session.get_events", session_id=session_id, limit=1000)["items"]
    return list(events)


def test_10_parallel_writers_leave_no_gap_and_no_repeat(fleet: RunningFleet) -> None:
    """Issue 2, show 4 [D-01 B-02 B-05 B-06 C-01]: each writes by five ways at once with the others.

    Every write is there once: seq 1..n, versions one by one, sums, lists and sets complete.
    """
    session_id = new(fleet)
    messages = []
    for writer in range(WRITERS):
        messages += [
            ("session.emit_event", {"type": "note", "actor": f"w{writer}"}),
            ("session.append_output", {"content": f"{writer}\n"}),
            ("session.update_metrics", {"metrics": {"api_call_count": 1}}),
            ("session.update", {"mode": "append", "context": {"seen": [writer]}}),
            ("session.update_context", {"account_ids": {"add": [f"a{writer}", "shared"]}}),
        ]
    answers = at_once(fleet, session_id, messages)
    assert not [answer for answer in answers if isinstance(answer, FleetError)]

    events = log(fleet, session_id)
    # created, started; then per writer a note, a chunk and two updates: counters are no event
    assert [event["seq"] for event in events] == list(range(1, 2 + 4 * WRITERS + 1))
    assert sorted(event["actor"] for event in events if event["event_name"] == "note") == sorted(
        f"w{writer}" for writer in range(WRITERS)
    )
    document = fleet.call("session.get", session_id=session_id)
    assert document["last_seq"] == len(events)
    assert document["metrics"] == {"api_call_count": WRITERS}
    assert sorted(document["context"]["seen"]) == list(range(WRITERS))
    assert sorted(document["account_ids"]) == sorted(["shared", *(f"a{writer}" for writer in range(WRITERS))])
    output = fleet.call("session.read_output", session_id=session_id)
    assert [chunk["chunk_no"] for chunk in output["chunks"]] == list(range(1, WRITERS + 1))
    assert sorted(output["output"].split()) == sorted(str(writer) for writer in range(WRITERS))

    updates = [event["metadata"] for event in events if event["event_type"] == "session.updated"][1:]
    assert [(entry["version_from"], entry["version_to"]) for entry in updates] == [
        (version, version + 1) for version in range(1, 2 * WRITERS + 1)
    ]
    assert document["state_version"] == 2 * WRITERS + 1


def test_events_answer_the_seq_they_got(fleet: RunningFleet) -> None:
    """D-01: an answer names its own event, also when others wrote in between."""
    session_id = new(fleet)
    notes = [("session.emit_event", {"type": "note", "payload": {"n": n}}) for n in range(3 * WRITERS)]
    answers = at_once(fleet, session_id, notes)
    by_seq = {event["seq"]: event["payload"].get("n") for event in log(fleet, session_id)}
    assert [by_seq[answer["seq"]] for answer in answers] == list(range(3 * WRITERS))


def test_of_parallel_moves_the_table_lets_one_win_each_time(fleet: RunningFleet) -> None:
    """A-06, D-01: ten pauses and ten starts at once are one move; history, events and version agree."""
    session_id = new(fleet)
    moves = [(name, {}) for _ in range(WRITERS) for name in ("session.pause", "session.start")]
    answers = at_once(fleet, session_id, moves)
    pauses, starts = answers[::2], answers[1::2]
    assert sorted(answer["changed"] for answer in pauses) == [False] * (WRITERS - 1) + [True]
    assert {answer.code for answer in starts} == {"INVALID_TRANSITION"}
    history = fleet.call("session.history", session_id=session_id)["items"]
    assert [entry["to"] for entry in history] == ["active", "paused"]
    assert [event["seq"] for event in log(fleet, session_id)] == [1, 2, 3]


def test_writers_of_many_sessions_and_the_duties_never_block_each_other(fleet: RunningFleet) -> None:
    """E-04, E-05, D-01: rows are locked in id order and duties pass over locked ones: nobody loses to a deadlock."""
    at_least(fleet, 4)
    sessions = [new(fleet, user_id="many") for _ in range(5)]

    def write(writer: int) -> list[int]:
        return [
            fleet.call("session.emit_event", timeout=60, session_id=sessions[(writer + n) % 5], type="note")["seq"]
            for n in range(5)
        ]

    with ThreadPoolExecutor(WRITERS) as pool:
        written = pool.map(write, range(WRITERS))
        for _ in range(5):
            fleet.call("maintenance.timeout_warnings", timeout=60)
            fleet.call("maintenance.cleanup_stale", timeout=60)
        assert sum(len(seqs) for seqs in written) == 5 * WRITERS
    for session_id in sessions:
        events = [event for event in log(fleet, session_id) if event["event_name"] == "note"]
        assert len(events) == WRITERS
    assert fleet.call("session.delete_by_user", user_id="many")["deleted"] == 5
