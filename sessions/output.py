"""The append_output verb (rows C-01, C-03, C-05)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sessionfleet.messages.output import AppendOutput
from sessions.change import Change, ChunkDraft, Context, EventDraft
from sessions.guards import check_working
from sessions.record import Record

CHUNK_BYTES = 262144
"""Longer content is split into chunks of at most this many bytes of UTF-8."""


def append_output(session: Record, command: AppendOutput, ctx: Context) -> Change:
    """Adds chunks and one event per chunk: ``error.received`` for stderr, else ``output.received``.

    An append: never stale, no state change; counts as activity (E-02).
    """
    check_working(session)
    chunks = [ChunkDraft(command.stream, text, len(text.encode()), _lines(text)) for text in split(command.content)]
    name = "error.received" if command.stream == "stderr" else "output.received"
    events = [
        EventDraft(name, {"chunk_no": session.last_chunk + n, "bytes": chunk.bytes, "stream": chunk.stream})
        for n, chunk in enumerate(chunks, start=1)
    ]
    first = session.last_chunk + 1

    def answer(record: Record) -> dict[str, Any]:
        return {
            "session_id": record.id,
            "chunk_no": first,
            "chunks": len(chunks),
            "seq": record.last_seq,
            "output_bytes": record.output_bytes,
            "output_lines": record.output_lines,
        }

    return Change(output=chunks, events=events, activity=True, answer=answer)


def split(content: str, most: int = CHUNK_BYTES) -> Iterator[str]:
    """Pieces of at most ``most`` (4 or more) bytes of UTF-8, never cut inside a character."""
    data = content.encode()
    start = 0
    while start < len(data):
        end = min(start + most, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        yield data[start:end].decode()
        start = end


def _lines(text: str) -> int:
    """Lines a piece adds to the buffer; a piece without line end counts as one."""
    return text.count("\n") + (not text.endswith("\n"))
