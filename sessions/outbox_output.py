"""The output that goes out with its events (row C-04): the outbox holds an event per chunk, the chunk stays
where it is read from.

An event of output carries number and size of its chunk, never its content. So the order of chunks is the order
of events, nothing is stored twice, and a chunk that left the buffer before the relay came is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, text

EVENTS = frozenset({"output.received", "error.received"})
"""Events of one chunk each; callers cannot forge them, their words have no dot."""

R = TypeVar("R", bound=Any)

Key = tuple[str, int]
"""Session id and number of a chunk."""

Chunk = Mapping[str, Any]
"""session_id, chunk_no, stream, content, created_at."""

_CHUNKS = text("""
    SELECT o.session_id::text, o.chunk_no, o.stream, o.content, o.created_at
    FROM unnest(CAST(:session_ids AS uuid[]), CAST(:chunk_nos AS bigint[])) AS wanted (session_id, chunk_no)
    JOIN session_output AS o USING (session_id, chunk_no)
""")


def key_of(row: Any) -> Key | None:
    """The chunk an event tells of; None for other events."""
    if row.event_name not in EVENTS or not isinstance(row.payload.get("chunk_no"), int):
        return None  # an imported event may have another payload
    return str(row.session_id), row.payload["chunk_no"]


def affordable(rows: Sequence[R], most: int) -> Sequence[R]:
    """The first of ``rows`` whose chunks have about ``most`` bytes together; at least one row."""
    left = most
    for place, row in enumerate(rows):
        left -= row.payload.get("bytes", 0) if key_of(row) else 0
        if left < 0:
            return rows[: max(1, place)]
    return rows


def chunks(db: Connection, rows: Sequence[Any]) -> Mapping[Key, Chunk]:
    """The chunks the output events among ``rows`` tell of, as far as they are still there."""
    keys = [key for row in rows if (key := key_of(row)) is not None]
    if not keys:
        return {}
    session_ids, chunk_nos = zip(*keys, strict=True)
    found = db.execute(_CHUNKS, {"session_ids": list(session_ids), "chunk_nos": list(chunk_nos)})
    return {(row["session_id"], row["chunk_no"]): dict(row) for row in found.mappings()}
