"""Output of sessions through real workers (rows C-01..C-03, C-05)."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from sessionfleet.errors import InvalidTransition, SessionNotFound, ValidationFailed
from tests.support import RunningFleet, eventually
from tests.support.crowd import at_once

CHUNK = 262144


def new(fleet: RunningFleet, **arguments: Any) -> str:
    return str(fleet.call("session.create", status="active", **arguments)["id"])


def append(fleet: RunningFleet, session_id: str, content: str, stream: str = "stdout") -> Any:
    return fleet.call("session.append_output", session_id=session_id, content=content, stream=stream)


def read(fleet: RunningFleet, session_id: str, **arguments: Any) -> Any:
    return fleet.call("session.read_output", session_id=session_id, **arguments)


def last_chunk(fleet: RunningFleet, session_id: str) -> int:
    with fleet.engine.connect() as db:
        statement = text("SELECT last_chunk FROM sessions WHERE id = :id")
        return int(db.execute(statement, {"id": session_id}).scalar_one())


def test_two_lines_are_read_in_order(fleet: RunningFleet) -> None:
    """AT-C1, first half [C-01 C-02]: the reply holds output, output_length and status."""
    session_id = new(fleet)
    assert append(fleet, session_id, "Line 1\n")["chunk_no"] == 1
    assert append(fleet, session_id, "Line 2\n")["chunk_no"] == 2
    answer = read(fleet, session_id)
    assert answer["output"] == "Line 1\nLine 2\n"
    assert answer["output_length"] == 14
    assert answer["status"] == "active"
    assert [(chunk["chunk_no"], chunk["content"]) for chunk in answer["chunks"]] == [(1, "Line 1\n"), (2, "Line 2\n")]
    assert (answer["next_chunk"], answer["truncated_before"], answer["eof"]) == (2, 0, False)


def test_100_parallel_appends_keep_100_chunks(fleet: RunningFleet) -> None:
    """AT-C1, second half [C-01]: four worker processes at one session, chunks 1-100, none lost or doubled."""
    session_id = new(fleet)
    lines = [f"line {number}\n" for number in range(100)]
    answers = at_once(fleet, session_id, [("session.append_output", {"content": line}) for line in lines])
    assert sorted(answer["chunk_no"] for answer in answers) == list(range(1, 101))
    chunks = read(fleet, session_id)["chunks"]
    assert [chunk["chunk_no"] for chunk in chunks] == list(range(1, 101))
    by_number = {answer["chunk_no"]: line for answer, line in zip(answers, lines, strict=True)}
    assert [chunk["content"] for chunk in chunks] == [by_number[number] for number in range(1, 101)]


def test_the_buffer_keeps_the_last_1000_of_1500_lines(fleet: RunningFleet) -> None:
    """AT-C2 [C-02 C-03]: chunks 501-1500 remain, truncated_before is 500, and the rest leaves the table."""
    session_id = new(fleet)
    for number in range(1500):
        fleet.client.send("session.append_output", session_id=session_id, content=f"line {number}\n")
    eventually(lambda: last_chunk(fleet, session_id) == 1500, 120, every=0.2)
    answer = read(fleet, session_id)
    assert answer["truncated_before"] == 500
    assert [chunk["chunk_no"] for chunk in answer["chunks"]] == list(range(501, 1501))
    lines = [chunk["content"] for chunk in answer["chunks"]]
    assert len(set(lines) & {f"line {number}\n" for number in range(1500)}) == 1000
    assert (answer["output"], answer["status"]) == ("".join(lines), "active")
    assert answer["output_length"] == len(answer["output"])
    with fleet.engine.connect() as db:
        kept = db.execute(text("SELECT count(*) FROM session_output WHERE session_id = :id"), {"id": session_id})
        assert 1000 <= kept.scalar_one() <= 1064


def test_a_bound_is_never_exceeded_but_by_the_newest_chunk(fleet: RunningFleet) -> None:
    """AT-C2 [C-03]: chunks of 400 lines, two of which fit into 1000; then one that does not fit at all."""
    session_id = new(fleet)
    for number in range(3):
        append(fleet, session_id, f"{number}\n" * 400)
    answer = read(fleet, session_id)
    assert answer["truncated_before"] == 1
    assert answer["output"] == "1\n" * 400 + "2\n" * 400
    append(fleet, session_id, "long\n" * 1001)
    answer = read(fleet, session_id)
    assert answer["truncated_before"] == 3
    assert answer["output"] == "long\n" * 1001


def test_the_buffer_keeps_10485760_bytes(fleet: RunningFleet) -> None:
    """AT-C2 [C-03]: 44 chunks of 262144 bytes, of which 40 are the bound."""
    session_id = new(fleet)
    for letter in "abcd":
        assert append(fleet, session_id, letter * 11 * CHUNK)["chunks"] == 11
    answer = read(fleet, session_id, limit=1)
    assert answer["truncated_before"] == 4
    assert answer["next_chunk"] == 5
    assert [chunk["content"][0] for chunk in read(fleet, session_id, after_chunk=42)["chunks"]] == ["d", "d"]
    append(fleet, session_id, "e")
    assert read(fleet, session_id, limit=1)["truncated_before"] == 5


def test_long_content_is_split_between_characters(fleet: RunningFleet) -> None:
    """C-01: above 262144 bytes of UTF-8, wherever the cut falls."""
    session_id = new(fleet)
    content = "x" + "\U0001f680" * (CHUNK // 2) + "ü"
    answer = append(fleet, session_id, content)
    assert (answer["chunk_no"], answer["chunks"]) == (1, 3)
    found = read(fleet, session_id)
    assert found["output"] == content
    assert [chunk["bytes"] for chunk in found["chunks"]] == [CHUNK - 3, CHUNK, 6]
    assert all(len(chunk["content"].encode()) == chunk["bytes"] for chunk in found["chunks"])
    exact = append(fleet, session_id, "y" * CHUNK)
    assert (exact["chunk_no"], exact["chunks"]) == (4, 1)


def test_a_reader_goes_on_from_any_chunk_until_the_end(fleet: RunningFleet) -> None:
    """C-02: any chunk_no, pages of limit, eof once the session has ended and all is read."""
    session_id = new(fleet)
    for number in range(1, 8):
        append(fleet, session_id, f"{number} ")
    cursor, pages = 0, []
    while (page := read(fleet, session_id, after_chunk=cursor, limit=3))["chunks"]:
        pages.append(page["output"])
        cursor = page["next_chunk"]
    assert pages == ["1 2 3 ", "4 5 6 ", "7 "]
    assert (page["next_chunk"], page["eof"]) == (7, False)
    fleet.call("session.complete", session_id=session_id)
    assert read(fleet, session_id, after_chunk=3, limit=3)["eof"] is False
    last = read(fleet, session_id, after_chunk=6)
    assert (last["status"], last["eof"]) == ("completed", True)


def test_each_stream_has_its_event(fleet: RunningFleet) -> None:
    """AT-C6, first part [C-05]: a stderr chunk emits one error.received, others output.received."""
    session_id = new(fleet)
    for stream in ("stdout", "stderr", "input"):
        append(fleet, session_id, "grün", stream)
    events = fleet.call("session.get_events", session_id=session_id, after_seq=2)["items"]
    assert [(event["event_name"], event["payload"]) for event in events] == [
        ("output.received", {"chunk_no": 1, "bytes": 5, "stream": "stdout"}),
        ("error.received", {"chunk_no": 2, "bytes": 5, "stream": "stderr"}),
        ("output.received", {"chunk_no": 3, "bytes": 5, "stream": "input"}),
    ]
    assert [chunk["stream"] for chunk in read(fleet, session_id)["chunks"]] == ["stdout", "stderr", "input"]


def test_what_is_refused(fleet: RunningFleet) -> None:
    """C-02, C-03: unknown sessions and limits out of bounds; an ended session takes no output."""
    with pytest.raises(SessionNotFound):
        read(fleet, "nobody")
    with pytest.raises(SessionNotFound):
        append(fleet, "nobody", "x")
    session_id = new(fleet)
    for limit in (0, 10001):
        with pytest.raises(ValidationFailed, match="limit"):
            read(fleet, session_id, limit=limit)
    fleet.call("session.terminate", session_id=session_id)
    with pytest.raises(InvalidTransition):
        append(fleet, session_id, "too late")
    assert read(fleet, session_id)["chunks"] == []
