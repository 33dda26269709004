"""Every key, channel and Stream name, in one place.

``prefix`` (the setting channel_prefix) stands before channels and Streams, which other services read
(D-07); cache and hint keys are the fleet's own and carry none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

HINT = "relay:hint"
"""List of at most one element: something was committed, relay, look."""

PROBE = "relay:probe"
"""Written by the relay to learn whether Redis takes writes again; expires by itself."""

DOCUMENT = "sess:doc:"
EXTERNAL = "sess:ext:"


def document_key(session_id: str) -> str:
    """The cached document of a session (string, JSON)."""
    return DOCUMENT + session_id


def external_key(external_id: str) -> str:
    """The id of the session that has this external id (string); none for an external id that is made of it."""
    return EXTERNAL + external_id


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of channels and Streams under one prefix."""

    prefix: str = ""
    global_name: str = "global:sessions"

    @property
    def all_channel(self) -> str:
        """Every event of every session."""
        return f"{self.prefix}events:session"

    @property
    def global_channel(self) -> str:
        """Sessions created and ended, nothing else."""
        return f"{self.prefix}{self.global_name}"

    def session_channel(self, session_id: str) -> str:
        """Every event of one session."""
        return f"{self.prefix}session:{session_id}"

    @property
    def all_stream(self) -> str:
        """Every event of every session, about the last 100,000 (D-10)."""
        return f"{self.prefix}stream:events"

    def session_stream(self, session_id: str) -> str:
        """The last ``max_events`` events of one session."""
        return f"{self.prefix}stream:session:{session_id}"

    def output_stream(self, session_id: str) -> str:
        """The last output of one session, and its end (C-04)."""
        return f"{self.prefix}stream:output:{session_id}"

    @property
    def output_stream_pattern(self) -> str:
        """For SCAN: the output Streams of all sessions."""
        return f"{glob_escape(self.prefix)}stream:output:*"

    @property
    def session_stream_pattern(self) -> str:
        """For SCAN: the Streams of all sessions, retired ones among them."""
        return f"{glob_escape(self.prefix)}stream:session:*"

    def retired(self, stream: str, generation: int) -> str:
        """Where a Stream is moved when its generation ends."""
        return f"{stream}:gen{generation}"

    def is_retired(self, stream: str) -> bool:
        """Whether this name was made by :meth:`retired`."""
        return re.search(r":gen\d+$", stream) is not None


def glob_escape(text: str) -> str:
    """``text`` as a SCAN pattern that matches itself only."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", text)
