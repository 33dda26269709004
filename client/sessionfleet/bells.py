"""Publishing to a fleet's queues: after its message goes a bell that wakes one idle worker.

Idle workers wait on a bell list per queue. Whoever does not ring, as a plain Celery producer, has it done by
the fleet's relay a few milliseconds later, or without that waits a second at most.
"""

from __future__ import annotations

from typing import Any

from kombu.transport.redis import Channel, Transport
from kombu.utils.json import dumps

from sessionfleet.errors import ValidationFailed

BELL = "_fleet.bell."
"""The bell list of a queue is this and the queue's name."""

LIFE_MS = 60_000
"""A bell nobody listens to goes by itself."""

LARGEST = 64 * 1024 * 1024
"""Bytes of a message; workers put a larger one away unread."""


class RingingChannel(Channel):
    """kombu's Redis channel with a bell for each message."""

    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:
        """The message, then its bell, in one pipeline. The fleet's queues do not expire.

        Raises ValidationFailed for a message larger than LARGEST, before anything is sent.
        """
        payload = dumps(message)
        if len(payload) > LARGEST:
            raise ValidationFailed.of("arguments", f"a message of {len(payload)} bytes is larger than {LARGEST}")
        untyped: Any = self
        key = untyped._q_for_pri(queue, untyped._get_message_priority(message, reverse=False))  # noqa: SLF001
        with self.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
            pipe.lpush(key, payload).lpush(BELL + queue, "1").pexpire(BELL + queue, LIFE_MS)
            published = pipe.execute(raise_on_error=False)[0]
        # A bell that cannot be rung is no reason to say that the message was refused.
        if isinstance(published, Exception):
            raise published


class RingingTransport(Transport):
    """kombu's Redis transport with such channels; for ``redis://`` and ``rediss://``."""

    Channel = RingingChannel
