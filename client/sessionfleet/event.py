"""An event of a session as its subscribers see it (D-02)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from sessionfleet.jsontext import decode
from sessionfleet.renderings import agui, cloudevent
from sessionfleet.words import TERMINAL

PING = "ping"
REPLAY_END = "replay_end"
END = "end"

CLOSED = "closed"
TIMEOUT = "timeout"
DELETED = "deleted"
"""Reasons of an end beside the terminal statuses."""

LAST_WORDS = frozenset(f"session.{status}" for status in TERMINAL) | {"session.deleted"}
"""Events after which a session's subscription ends."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event, or a mark of the subscription (D-15).

    ``seq`` counts from 1 without gap within its session; ``stream_id`` is its entry in the Stream of
    all sessions, None when it was read from PostgreSQL. ``raw`` is the whole envelope as it came.
    ``event_type`` is the coarse word of R-04 (session.created, session.updated, ...),
    ``event_name`` the exact one.

    A mark has ``is_mark``, a name without a dot, and as ``seq`` and ``stream_id`` the place reached:
    ``replay_end`` once, when all that had happened by the start has been handed out; ``end`` once, as
    the last, with its ``reason``; ``ping`` when pings were asked for.
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
    is_mark: bool = False

    @property
    def is_ping(self) -> bool:
        """A sign of life of the subscription."""
        return self.is_mark and self.event_name == PING

    @property
    def is_replay_end(self) -> bool:
        """From here on events come as they happen."""
        return self.is_mark and self.event_name == REPLAY_END

    @property
    def is_end(self) -> bool:
        """Nothing follows; :attr:`reason` says why."""
        return self.is_mark and self.event_name == END

    @property
    def reason(self) -> str | None:
        """Why the subscription ended: the session's terminal status, ``deleted``, ``timeout`` or ``closed``."""
        return str(self.payload["reason"]) if self.is_end else None

    @property
    def is_last(self) -> bool:
        """Nothing but an archive or a deletion can follow in this session."""
        return self.event_name in LAST_WORDS

    def cloudevent(self) -> dict[str, Any]:
        """As a CloudEvent 1.0 in the JSON format; ValueError for a mark. See
        :func:`sessionfleet.renderings.cloudevent`."""
        return cloudevent(self._envelope())

    def agui(self) -> list[dict[str, Any]]:
        """As AG-UI events; ValueError for a mark. See :func:`sessionfleet.renderings.agui`; the text of output
        is in its chunks, :func:`sessionfleet.renderings.agui_text`."""
        return agui(self._envelope())

    def _envelope(self) -> Mapping[str, Any]:
        if self.is_mark:
            raise ValueError(f"{self.event_name} is a mark of the subscription, no event")
        return self.raw

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
    def mark(cls, name: str, session_id: str, seq: int, stream_id: str | None = None, **payload: str) -> Self:
        """See :attr:`is_mark`."""
        return cls(name, name, session_id, seq, payload=payload, stream_id=stream_id, is_mark=True)


def event_in(text: bytes | str, stream_id: str | None = None) -> Event | None:
    """The event in a message, or None: anybody can publish on a channel, so what is no envelope is passed over."""
    try:
        return Event.of(decode(text), stream_id)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None
