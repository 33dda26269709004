"""Following output through a running relay (C-04): every chunk once, in order, then an end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable
from itertools import islice

import pytest
from sqlalchemy import text

from sessionfleet import AsyncFleet, Chunk
from sessionfleet.errors import SessionNotFound
from tests.integration.client.test_calls import urls
from tests.integration.client.test_catching_up import connections
from tests.support import RunningFleet, eventually

LATE = 1.0
"""Seconds that 99 of 100 chunks stay under from commit to reader: ten times what AT-C3 asks of an idle machine."""


def numbers(chunks: Iterable[Chunk]) -> list[int]:
    return [chunk.chunk_no for chunk in chunks if not chunk.is_mark]


def write(fleet: RunningFleet, session_id: str, count: int, lines: int = 1) -> None:
    for handle in [
        fleet.client.submit("session.append_output", session_id=session_id, content="x\n" * lines)
        for _ in range(count)
    ]:
        handle.result(60)


def stream(fleet: RunningFleet, session_id: str) -> str:
    return f"{fleet.settings.channel_prefix}stream:output:{session_id}"


def test_cut_at_40_of_100(fleet: RunningFleet) -> None:
    """AT-C3 [C-04]: 41 to 100 once each, then an end; commit to reader soon."""
    session_id = fleet.call("session.create", status="active")["id"]
    with fleet.client.output(session_id, marks=False) as chunks:
        write(fleet, session_id, 45)
        first = list(islice(chunks, 40))
    late: list[float] = []
    rest: list[Chunk] = []

    def read() -> None:
        for chunk in fleet.client.output(session_id, after_chunk=first[-1].chunk_no):
            rest.append(chunk)
            if chunk.at is not None:
                late.append(time.time() - chunk.at.timestamp())

    reader = threading.Thread(target=read)
    reader.start()
    eventually(lambda: any(chunk.is_replay_end for chunk in rest))
    for n in range(46, 101):
        fleet.call(
            "session.append_output", session_id=session_id, content=f"{n}\n", stream=("stdout", "stderr")[n % 2]
        )
    fleet.call("session.complete", session_id=session_id)
    reader.join(60)
    assert numbers([*first, *rest]) == list(range(1, 101))
    assert (rest[-1].is_end, rest[-1].chunk_no, rest[-1].reason) == (True, 100, "completed")
    assert [(chunk.stream, chunk.content) for chunk in rest if chunk.chunk_no > 98 and not chunk.is_mark] == [
        ("stderr", "99\n"),
        ("stdout", "100\n"),
    ]
    assert max(late[10:]) < LATE


@pytest.mark.parametrize("kept", ["Stream", "PostgreSQL"])
def test_from_either_place(fleet: RunningFleet, kept: str) -> None:
    """C-04: the Stream first, then PostgreSQL; what one has lost the other has."""
    session_id = fleet.call("session.create", status="active")["id"]
    write(fleet, session_id, 12)
    fleet.call("session.terminate", session_id=session_id)
    eventually(lambda: fleet.cache.xlen(stream(fleet, session_id)) == 13)
    if kept == "Stream":
        with fleet.engine.begin() as db:
            db.execute(text("DELETE FROM session_output WHERE session_id = CAST(:id AS uuid)"), {"id": session_id})
    else:
        fleet.cache.delete(stream(fleet, session_id))
    for cursor in (0, 5, 12):
        chunks = list(fleet.client.output(session_id, cursor))
        assert numbers(chunks) == list(range(cursor + 1, 13))
        assert [chunk.mark for chunk in chunks if chunk.is_mark] == ["replay_end", "end"]
        assert chunks[-1].reason == "terminated"


def test_what_left_the_buffer_is_counted(fleet: RunningFleet) -> None:
    """C-03, C-04: of 1,500 lines in 15 chunks the buffer has the last 1,000."""
    session_id = fleet.call("session.create", status="active")["id"]
    write(fleet, session_id, 15, lines=100)
    fleet.call("session.complete", session_id=session_id)
    eventually(lambda: fleet.cache.xlen(stream(fleet, session_id)) == 16)
    fleet.cache.delete(stream(fleet, session_id))
    chunks = list(fleet.client.output(session_id, after_chunk=2, marks=False))
    assert numbers(chunks) == list(range(6, 16))
    assert [chunk.missed for chunk in chunks] == [3] + [0] * 9


def test_a_lost_message_and_a_gap_in_the_stream(fleet: RunningFleet) -> None:
    """C-04: a chunk's number shows what did not come."""
    session_id = fleet.call("session.create", status="active")["id"]
    channel = f"{fleet.settings.channel_prefix}session:{session_id}"
    with fleet.client.output(session_id, after_chunk=None) as chunks:
        assert next(chunks).is_replay_end
        mine = connections(fleet)
        write(fleet, session_id, 3)
        assert numbers(islice(chunks, 3)) == [1, 2, 3]
        for one in mine:
            fleet.cache.client_kill_filter(_id=one)
        write(fleet, session_id, 4)
        eventually(lambda: fleet.cache.xlen(stream(fleet, session_id)) == 7)
        fleet.cache.xdel(stream(fleet, session_id), "5-0")
        fleet.cache.publish(channel, '{"type": "output", "chunk_no": "x"}')
        fleet.call("session.complete", session_id=session_id)
        assert numbers(chunks) == [4, 5, 6, 7]


def test_its_ends(fleet: RunningFleet) -> None:
    """C-04: deleted, timeout, closed; nobody has no output."""
    session_id = fleet.call("session.create", status="active")["id"]
    write(fleet, session_id, 1)
    assert [chunk.reason for chunk in fleet.client.output(session_id, timeout=0.2)][-1] == "timeout"
    closed = fleet.client.output(session_id)
    closed.close()
    assert [chunk.reason for chunk in closed] == ["closed"]
    with fleet.client.output(session_id) as chunks:
        fleet.call("session.delete", session_id=session_id)
        *_, end = chunks
    assert end.reason == "deleted"
    with pytest.raises(SessionNotFound):
        fleet.client.output(session_id)


def test_the_asynchronous_client_does_the_same(fleet: RunningFleet) -> None:
    async def go() -> list[tuple[int, str | None]]:
        async with AsyncFleet.connect(**urls(fleet)) as client:
            session_id = (await client.call("session.create", status="active"))["id"]
            async with client.output(session_id, ping=0.05) as chunks:
                assert (await anext(chunks)).is_replay_end
                assert (await anext(chunks)).is_ping
                await client.call("session.append_output", session_id=session_id, content="x\n")
                await client.call("session.terminate", session_id=session_id)
                return [(chunk.chunk_no, chunk.mark) async for chunk in chunks if not chunk.is_ping]

    assert asyncio.run(go()) == [(1, None), (1, "end")]
