"""A plain Redis subscriber, as a consumer without any code of ours would be one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import redis

Message = dict[str, Any]


class Listener:
    """Subscribed to ``channels`` once it is entered; what arrives is kept with the channel it came by."""

    def __init__(self, client: redis.Redis, *channels: str) -> None:
        self._pubsub = client.pubsub(ignore_subscribe_messages=False)
        self._channels = channels
        self.heard: list[tuple[str, Message]] = []

    def __enter__(self) -> Self:
        self._pubsub.subscribe(*self._channels)
        confirmed = 0
        while confirmed < len(self._channels):
            found = self._pubsub.get_message(timeout=60)
            assert found is not None, "Redis confirmed no subscription"
            confirmed += found["type"] == "subscribe"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pubsub.close()

    def on(self, channel: str, session_id: str | None = None) -> list[Message]:
        """The events that came by ``channel``, of one session if given; a session's own carries its output too."""
        return [
            message
            for name, message in self.heard
            if name == channel
            and "event_name" in message
            and (session_id is None or message["session_id"] == session_id)
        ]

    def until(self, enough: Callable[[], bool], timeout: float = 60) -> None:
        """Listens until ``enough()``; AssertionError with what was heard after ``timeout`` seconds."""
        end = time.monotonic() + timeout
        while not enough():
            rest = end - time.monotonic()
            assert rest > 0, f"not heard within {timeout} s: {[m.get('message_id') for _, m in self.heard]}"
            found = self._pubsub.get_message(timeout=rest)
            if found is not None and found["type"] == "message":
                self.heard.append((found["channel"], json.loads(found["data"])))

    def until_seq(self, channel: str, session_id: str, seq: int, timeout: float = 60) -> list[Message]:
        """Listens until the event ``seq`` of a session came by ``channel``; all of it that came so far."""
        self.until(lambda: any(m["seq"] >= seq for m in self.on(channel, session_id)), timeout)
        return self.on(channel, session_id)


def stream_entries(client: redis.Redis, stream: str, session_id: str) -> list[tuple[str, dict[str, str]]]:
    """The entries of a session in a Stream: id and fields, oldest first."""
    entries: list[tuple[str, dict[str, str]]] = client.xrange(stream)
    return [entry for entry in entries if entry[1]["session_id"] == session_id]
