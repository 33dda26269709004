"""Frames and chunks on their way in and out (C-04, R-09)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sessionfleet.chunk import chunk_in
from sessionfleet.errors import ValidationFailed
from sessionfleet.frames import GetStatus, Input, encode, parse

MESSAGE = {
    "type": "output",
    "session_id": "s",
    "chunk_no": 3,
    "stream": "stderr",
    "content": "x\n",
    "at": "2026-01-02T03:04:05.678901+00:00",
}


def test_a_line_is_a_line_whatever_is_in_it() -> None:
    content = "".join(map(chr, [*range(0x20), 0x7F, 0x85, 0x2028, 0x2029, 0x1F600])) + '"\\'
    line = encode({"type": "output", "content": content})
    assert line.isascii()
    assert len(line.splitlines()) == 1
    assert json.loads(line)["content"] == content


@pytest.mark.parametrize(
    ("sent", "asked"),
    [
        ({"type": "get_status"}, GetStatus(type="get_status")),
        ('{"type": "get_status", "id": "1"}', GetStatus(type="get_status", id="1")),
        (b'{"type": "input", "content": "y\\n"}', Input(type="input", content="y\n")),
    ],
)
def test_what_a_reader_may_say(sent: Any, asked: Any) -> None:
    assert parse(sent) == asked


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        b"\xff",
        {},
        {"type": "reboot"},
        {"type": "input"},
        {"type": "get_status", "x": 1},
        7,
    ],
)
def test_anything_else_is_refused(sent: Any) -> None:
    with pytest.raises(ValidationFailed):
        parse(sent)


def test_a_chunk_in_a_message() -> None:
    chunk = chunk_in("s", json.dumps(MESSAGE).encode())
    assert chunk is not None
    assert (chunk.chunk_no, chunk.stream, chunk.content, chunk.missed) == (3, "stderr", "x\n", 0)
    assert chunk.at is not None
    assert chunk.at.isoformat() == MESSAGE["at"]
    assert not chunk.is_mark


@pytest.mark.parametrize(
    "message",
    [b"", b"[]", b"{}", b"\xff", json.dumps(MESSAGE | {"event_name": "output", "seq": 1}).encode()]
    + [json.dumps(MESSAGE | {name: None}).encode() for name in ("type", "chunk_no")],
)
def test_other_messages_are_no_chunks(message: bytes) -> None:
    assert chunk_in("s", message) is None
