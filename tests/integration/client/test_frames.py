"""Frames for terminals and websockets (R-09)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Iterable
from itertools import islice
from typing import Any

import pytest

from sessionfleet import AsyncFleet
from sessionfleet.errors import SessionNotFound
from sessionfleet.frames import FRAMES, SCHEMA, Frame, encode
from tests.integration.client.test_calls import urls
from tests.integration.client.test_catching_up import connections
from tests.support import RunningFleet, eventually
from tests.support.private import PrivateFleet


def checked(found: Iterable[Frame]) -> list[Frame]:
    """The frames, each of which fits its schema and comes back from its one line."""
    all_frames = list(found)
    for frame in all_frames:
        FRAMES.validate_python(frame)
        line = encode(frame)
        assert json.loads(line) == frame
        assert len(line.splitlines()) == 1
    return all_frames


def told(found: Iterable[Frame], type_: str, field: str) -> list[Any]:
    return [frame[field] for frame in found if frame["type"] == type_]


def test_the_life_of_a_session(fleet: RunningFleet) -> None:
    """R-09: what was before, what happens, the end; control characters stay inside their line."""
    session_id = fleet.call("session.create", status="active", external_id="frames-1")["id"]
    nasty = 'a\r\nb\x85c\u2028d\x1b[0m"\\é😀\n'
    fleet.call("session.append_output", session_id=session_id, content=nasty)
    with fleet.client.frames("frames-1") as frames:
        first = list(islice(frames, 2))
        fleet.call("session.pause", session_id=session_id, reason="lunch", actor="me")
        fleet.call("session.resume", session_id=session_id)
        fleet.call("session.append_output", session_id=session_id, content="!\n", stream="stderr")
        fleet.call("session.complete", session_id=session_id)
        seen = checked([*first, *frames])
    assert seen[0] == {
        "type": "connected",
        "session_id": session_id,
        "status": "active",
        "state_version": 1,
        "seq": 3,
        "chunk_no": 0,
    }
    assert told(seen, "output", "content") == [nasty, "!\n"]
    assert told(seen, "output", "stream") == ["stdout", "stderr"]
    assert told(seen, "status", "status") == ["paused", "active", "completed"]
    assert told(seen, "status", "seq") == [4, 5, 7]
    paused = next(frame for frame in seen if frame["type"] == "status")
    assert (paused["event"], paused["reason"], paused["actor"]) == ("session.paused", "lunch", "me")
    assert seen[-1] == {
        "type": "terminated",
        "session_id": session_id,
        "reason": "completed",
        "seq": 7,
        "chunk_no": 2,
    }
    assert set(SCHEMA["discriminator"]["mapping"]) == {"connected", "output", "status", "terminated", "error", "ping"}


def test_get_status_and_input(fleet: RunningFleet) -> None:
    """R-09: answered among the other frames; a refusal is an error frame with its code."""
    session_id = fleet.call("session.create", status="active")["id"]
    with fleet.client.frames(session_id) as frames:
        assert next(frames)["type"] == "connected"
        frames.send({"type": "get_status", "id": "q1"})
        frames.send('{"type": "get_status"}')
        frames.send(b"{")
        frames.send({"type": "reboot"})
        frames.send({"type": "input", "content": "", "id": "q2"})
        answers = checked(islice(frames, 5))
    assert [(answer["type"], answer["id"]) for answer in answers[:2]] == [("status", "q1"), ("status", None)]
    assert answers[0]["status"] == "active"
    assert (answers[0]["seq"], answers[0]["event"]) == (2, None)
    assert [answer["code"] for answer in answers[2:]] == ["VALIDATION_FAILED"] * 3
    frames.send({"type": "get_status"})
    assert [frame["reason"] for frame in frames] == ["closed"]


def test_input_goes_to_the_operation_that_takes_it(fleet: RunningFleet) -> None:
    """R-09: a session that waits for nothing, or a fleet without that operation, refuses it with a typed code."""
    session_id = fleet.call("session.create")["id"]
    with fleet.client.frames(session_id) as frames:
        next(frames)
        frames.send({"type": "input", "content": "y\n", "id": "q"})
        [refused] = checked(islice(frames, 1))
    assert refused["type"] == "error"
    assert refused["id"] == "q"
    assert refused["code"] in ("UNKNOWN_OPERATION", "NOT_WAITING_FOR_INPUT")


def test_its_ends(fleet: RunningFleet) -> None:
    """R-09: always one, the last."""
    session_id = fleet.call("session.create")["id"]
    frames = checked(fleet.client.frames(session_id, ping=0.1, timeout=0.5))
    first, *pings, last = (frame["type"] for frame in frames)
    assert (first, set(pings), last) == ("connected", {"ping"}, "terminated")
    assert frames[-1]["reason"] == "timeout"
    live = fleet.client.frames(session_id)
    fleet.call("session.delete", session_id=session_id)
    assert checked(live)[-1]["reason"] == "deleted"
    with pytest.raises(SessionNotFound):
        fleet.client.frames(session_id)


def test_the_asynchronous_client_does_the_same(fleet: RunningFleet) -> None:
    async def go() -> list[str]:
        async with AsyncFleet.connect(**urls(fleet)) as client:
            session_id = (await client.call("session.create", status="active"))["id"]
            async with client.frames(session_id) as frames:
                await frames.send({"type": "get_status"})
                await client.call("session.append_output", session_id=session_id, content="x")
                types = [(await anext(frames))["type"] for _ in range(3)]
                await client.call("session.terminate", session_id=session_id)
                return sorted(types) + [frame["type"] async for frame in frames]

    assert asyncio.run(go()) == ["connected", "output", "status", "status", "terminated"]


def test_through_a_worker_s_death_and_a_new_connection(private_fleet: PrivateFleet) -> None:
    """AT-C7 [R-09]: the only worker is killed, the connections are cut, the reader comes back once more with its
    place: nothing is lost and nothing comes twice."""
    fleet = private_fleet(sessions=1)
    session_id = fleet.call("session.create", status="active")["id"]
    seen: list[Frame] = []

    def read() -> None:
        with fleet.client.frames(session_id, after_seq=0, ping=0.2) as frames:
            for frame in frames:
                seen.append(frame)
                if frame.get("chunk_no") == 45:
                    return

    def write(first: int, last: int) -> None:
        for n in range(first, last + 1):
            fleet.client.send("session.append_output", session_id=session_id, content=f"{n}\n")

    reader = threading.Thread(target=read)
    reader.start()
    fleet.call("session.pause", session_id=session_id)
    fleet.call("session.resume", session_id=session_id)
    write(1, 20)
    eventually(lambda: told(seen, "output", "chunk_no")[-1:] == [20])
    mine = connections(fleet)
    [worker] = fleet.of("sessions")
    os.killpg(worker.pid, signal.SIGKILL)
    write(21, 40)
    for one in mine:
        fleet.cache.client_kill_filter(_id=one)
    eventually(lambda: told(seen, "ping", "seq"))
    fleet.start("sessions")
    write(41, 45)
    reader.join(60)
    assert not reader.is_alive(), seen[-3:]
    last = [frame["seq"] for frame in seen if "seq" in frame][-1]
    chunk_no = told(seen, "output", "chunk_no")[-1]
    fleet.client.send("session.append_output", session_id=session_id, content="46\n")
    fleet.call("session.complete", session_id=session_id, timeout=60)
    again = checked(fleet.client.frames(session_id, last, chunk_no))
    everything = checked(seen) + again
    assert told(everything, "output", "chunk_no") == list(range(1, 47))
    # What the killed worker held comes back behind what others were given.
    assert sorted(told(everything, "output", "content"), key=int) == [f"{n}\n" for n in range(1, 47)]
    stored = fleet.call("session.get_events", session_id=session_id, limit=1000)["items"]
    with_status = [event["seq"] for event in stored if "status" in event["payload"]]
    assert told(everything, "status", "seq") == with_status
    assert {frame["type"] for frame in everything} == {"connected", "output", "status", "ping", "terminated"}
