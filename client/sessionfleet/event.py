"""An event of a session as its subscribers see it (D-02)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from sessionfleet.words import TERMINAL

PING = "ping"

LAST_WORDS = frozenset(f"session.{status}" for status in TERMINAL) | {"session.deleted"}
"""Events after which a session's subscription ends."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event. ``seq`` counts from 1 without gap within its session; ``stream_id`` is its entry
    in the Stream of all sessions, None when it was read from PostgreSQL. ``raw`` is the whole
    envelope as it came.

    ``event_type`` is the coarse word of R-04 (session.created, session.updated, ...),
    ``event_name`` the exact one.
    """

    event_name: str
    event_type: str
    session_id: str
    seq: int
    event_id: str = ""
    timestamp: datetime | None = None
    actor: str | None = None
    payload: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    stream_id: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def is_ping(self) -> bool:
        """A sign of life of the subscription, no event; its ``seq`` is the cursor so far."""
        return self.event_name == PING

    @property
    def is_last(self) -> bool:
        """Nothing but an archive or a deletion can follow in this session."""
        return self.event_name in LAST_WORDS

    @classmethod
    def of(cls, envelope: Mapping[str, Any], stream_id: str | None = None) -> Self:
        """From an envelope; raises KeyError, TypeError or ValueError when it is none."""
        name = str(envelope["event_name"])
        at = envelope.get("timestamp")
        return cls(
            event_name=name,
            event_type=str(envelope.get("event_type", name)),
            session_id=str(envelope["session_id"]),
            seq=int(envelope["seq"]),
            event_id=str(envelope.get("event_id", "")),
            timestamp=datetime.fromisoformat(at) if at else None,
            actor=envelope.get("actor"),
            payload=envelope.get("payload") or {},
            metadata=envelope.get("metadata") or {},
            stream_id=stream_id or envelope.get("stream_id"),
            raw=envelope,
        )

    @classmethod
    def ping(cls, session_id: str, seq: int, stream_id: str | None = None) -> Self:
        """See :attr:`is_ping`."""
        return cls(PING, PING, session_id, seq, stream_id=stream_id)


def event_in(text: bytes | str, stream_id: str | None = None) -> Event | None:
    """The event in a message, or None: anybody can publish on a channel, so what is no envelope is passed over."""
    try:
        return Event.of(json.loads(text), stream_id)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
