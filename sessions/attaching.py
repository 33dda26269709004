"""Where a reader begins: state and cursor of the same instant (row D-15)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from sessionfleet.errors import ValidationFailed
from sessionfleet.messages.events import GetEvents
from sessionfleet.messages.queries import Attach
from sessions.document import as_read
from sessions.event_queries import events
from sessions.policy import Policy
from sessions.queries import clock, find


def attach(db: Connection, command: Attach, policy: Policy) -> dict[str, Any]:
    """``{session, state_version, cursor, last_chunk}``: the document after event ``cursor`` and before the next.

    ``db`` is at REPEATABLE READ, so document, cursor and events are of one snapshot. With ``after_seq`` also
    ``{items, next_cursor}``: the first events after it. Raises SessionNotFound, and ValidationFailed for an
    ``after_seq`` this session never reached: its reader knows another past, as after a restored database.
    """
    session = find(db, command.session_id)
    found = {
        "session": as_read(session, clock(db), policy),
        "state_version": session.state_version,
        "cursor": session.last_seq,
        "last_chunk": session.last_chunk,
    }
    if command.after_seq is None:
        return found
    if command.after_seq > session.last_seq:
        raise ValidationFailed.of("after_seq", f"the last event is {session.last_seq}", last_seq=session.last_seq)
    missed = events(db, GetEvents(session_id=session.id, after_seq=command.after_seq, limit=command.limit))
    return {**found, "items": missed["items"], "next_cursor": missed["next_cursor"]}
