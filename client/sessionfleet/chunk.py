"""A piece of a session's output as its readers see it (C-01, C-04)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from sessionfleet.event import END, PING, REPLAY_END
from sessionfleet.jsontext import decode


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk of output, or a mark.

    ``chunk_no`` counts from 1 within its session, ``stream`` is stdout, stderr or input, ``at`` the
    instant it was written. ``missed``: so many chunks before it had left the output buffer (C-03)
    before this reader came.

    A mark has ``is_mark``, no content, and as ``chunk_no`` the place reached; the marks are those of
    :class:`Event`.
    """

    session_id: str
    chunk_no: int
    stream: str = ""
    content: str = ""
    at: datetime | None = None
    missed: int = 0
    mark: str | None = None
    reason: str | None = None
    """Of an end: the session's terminal status, ``deleted``, ``timeout`` or ``closed``."""

    @property
    def is_mark(self) -> bool:
        """Nothing of the session's, but something about the reading."""
        return self.mark is not None

    @property
    def is_ping(self) -> bool:
        """A sign of life."""
        return self.mark == PING

    @property
    def is_replay_end(self) -> bool:
        """From here on chunks come as they are written."""
        return self.mark == REPLAY_END

    @property
    def is_end(self) -> bool:
        """Nothing follows; :attr:`reason` says why."""
        return self.mark == END

    @classmethod
    def of(cls, session_id: str, found: Mapping[str, Any], missed: int = 0) -> Self:
        """From a message, a Stream entry or an answer; raises KeyError, TypeError or ValueError for anything else."""
        at = found.get("at") or found.get("created_at")
        return cls(
            session_id=session_id,
            chunk_no=int(found["chunk_no"]),
            stream=str(found["stream"]),
            content=str(found["content"]),
            at=datetime.fromisoformat(at) if at else None,
            missed=missed,
        )


def chunk_in(session_id: str, data: bytes) -> Chunk | None:
    """The chunk in a message on a session's channel; None for all that is none."""
    try:
        message = decode(data)
        return Chunk.of(session_id, message) if message["type"] == "output" and "event_name" not in message else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
