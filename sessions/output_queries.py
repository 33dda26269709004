"""Reads of a session's output (rows C-02, C-03)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, and_, func, or_, select

from models import SessionOutput, table_of
from sessionfleet.messages.output import ReadOutput
from sessionfleet.words import TERMINAL
from sessions.document import status_as_read
from sessions.policy import Policy
from sessions.queries import clock, find

_c = table_of(SessionOutput).c

READ_BYTES = 12 * 1024 * 1024
"""Content one read answers, about; it is in the answer twice. A buffer of the default size is one read."""


def read_output(db: Connection, command: ReadOutput, policy: Policy) -> dict[str, Any]:
    """Chunks after ``after_chunk`` that lie inside the buffer, oldest first, about READ_BYTES of them.

    ``truncated_before`` is the number of the last chunk that fell out of the buffer (0: none),
    ``next_chunk`` the cursor for the next call, ``eof`` true when the session has ended and nothing
    is left to read. Chunks outside the bounds are never shown, removed or not.
    """
    session = find(db, command.session_id)
    bounded = and_(
        _c.start_lines >= session.output_lines - policy.output_buffer_lines,
        _c.start_bytes >= session.output_bytes - policy.output_max_bytes,
    )
    inside = (_c.session_id == session.id, or_(bounded, _c.chunk_no == session.last_chunk))
    first = db.execute(select(func.min(_c.chunk_no)).where(*inside)).scalar()
    wanted = (*inside, _c.chunk_no > command.after_chunk)
    start = select(func.min(_c.start_bytes)).where(*wanted).scalar_subquery()
    rows = db.execute(
        select(_c.chunk_no, _c.stream, _c.content, _c.bytes, _c.created_at)
        .where(*wanted, _c.start_bytes < start + READ_BYTES)
        .order_by(_c.chunk_no)
        .limit(command.limit)
    ).all()
    chunks = [
        {
            "chunk_no": row.chunk_no,
            "stream": row.stream,
            "content": row.content,
            "bytes": row.bytes,
            "created_at": row.created_at.isoformat(),
        }
        for row in rows
    ]
    output = "".join(row.content for row in rows)
    next_chunk = rows[-1].chunk_no if rows else command.after_chunk
    status = status_as_read(session, clock(db))
    return {
        "session_id": session.id,
        "status": status,
        "output": output,
        "output_length": len(output),
        "chunks": chunks,
        "next_chunk": next_chunk,
        "last_chunk": session.last_chunk,
        "truncated_before": (first - 1) if first is not None else session.last_chunk,
        "eof": status in TERMINAL and next_chunk >= session.last_chunk,
    }
