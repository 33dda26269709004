"""Live output through a running relay, as a plain Redis client reads it (row C-04)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from tests.support import RunningFleet
from tests.support.listening import Listener

CHUNKS = 100
LATE = 1.0
"""Seconds from the database's instant of a chunk to its reader that 99 of 100 stay under, with work in between:
ten times what the row asks of an idle machine."""


def entries(fleet: RunningFleet, session_id: str, after: str = "0") -> Iterator[tuple[float, dict[str, str]]]:
    """(when it was read, fields) of a session's output Stream up to its end frame."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        found: Any = fleet.cache.xread({f"stream:output:{session_id}": after}, block=1000)
        for _, batch in found or ():
            for entry, fields in batch:
                after = entry
                yield time.time(), fields
                if "end" in fields:
                    return
    raise AssertionError(f"no end frame after {after}")


def test_a_reader_resumes_anywhere_and_gets_an_end_frame(fleet: RunningFleet) -> None:
    """AT-C3, the fleet's half [C-04]: cut at chunk 40 of 100, 41-100 come once each, then the end frame."""
    session_id = fleet.call("session.create", status="active")["id"]
    for number in range(1, CHUNKS + 1):
        fleet.client.send("session.append_output", session_id=session_id, content=f"line {number}\n")
    reading = entries(fleet, session_id)
    first = [next(reading)[1] for _ in range(40)]
    assert [int(fields["chunk_no"]) for fields in first] == list(range(1, 41))
    reading.close()
    while fleet.call("session.read_output", session_id=session_id)["last_chunk"] < CHUNKS:
        pass
    fleet.call("session.complete", session_id=session_id)
    *rest, end = (fields for _, fields in entries(fleet, session_id, "40-0"))
    assert [int(fields["chunk_no"]) for fields in rest] == list(range(41, CHUNKS + 1))
    assert end == {"end": "completed"}
    stored = fleet.call("session.read_output", session_id=session_id)["chunks"]
    assert [fields["content"] for fields in first + rest] == [chunk["content"] for chunk in stored]


def test_chunks_come_soon_after_their_commit(fleet: RunningFleet) -> None:
    """AT-C3 [C-04]: one at a time, as an executor writes; channel and Stream have the same."""
    session_id = fleet.call("session.create", status="active")["id"]
    late = []
    with Listener(fleet.cache, f"session:{session_id}") as listener:
        for number in range(1, CHUNKS + 1):
            fleet.call("session.append_output", session_id=session_id, content=f"line {number}\n")
            listener.until(lambda: len(chunks(listener)) == len(late) + 1)
            late.append(time.time() - datetime.fromisoformat(chunks(listener)[-1]["at"]).timestamp())
    fleet.call("session.terminate", session_id=session_id)
    assert sorted(late)[98] < LATE, sorted(late)[-5:]
    streamed = [fields for _, fields in entries(fleet, session_id)]
    names = ("chunk_no", "stream", "content", "at")
    assert [[str(message[name]) for name in names] for message in chunks(listener)] == [
        [fields[name] for name in names] for fields in streamed[:-1]
    ]
    assert streamed[-1] == {"end": "terminated"}


def chunks(listener: Listener) -> list[dict[str, Any]]:
    return [message for _, message in listener.heard if message["type"] == "output"]
