"""The list of messages nobody can take, and how one gets there.

An entry is one line of JSON, ``{"reason", "queue", "at"}`` with more where it is known, and after the
newline the message's bytes as they were found in the queue. Whoever drains the list reads from its end.
"""

from __future__ import annotations

import json
import logging
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from time import time
from typing import Any

import redis
from kombu.transport.redis import Channel
from kombu.utils.json import dumps, loads

from broker import names

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """One message in quarantine. ``at``: Unix time; ``deliveries``: how often it was delivered, at least;
    ``queue`` is "" where nobody knows it."""

    raw: bytes
    reason: str
    queue: str = ""
    at: float = 0.0
    deliveries: int = 1

    def dumps(self) -> bytes:
        """As it stands in the list."""
        head = {"reason": self.reason, "queue": self.queue, "at": self.at or time(), "deliveries": self.deliveries}
        return json.dumps(head).encode() + b"\n" + self.raw

    @classmethod
    def loads(cls, line: bytes) -> Entry:
        """An entry read back; one that is none itself is kept whole as the raw message."""
        head, _, raw = line.partition(b"\n")
        try:
            known = json.loads(head)
            at, deliveries = float(known["at"]), int(known.get("deliveries", 1))
            if not (0 < at < 4e9 and 0 < deliveries < 2**31):
                raise ValueError("no entry of ours")
            return cls(raw=raw, reason=str(known["reason"]), queue=str(known["queue"]), at=at, deliveries=deliveries)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return cls(raw=line, reason="unreadable entry of the quarantine list", at=time())


def origin(note: bytes | None, message: Any) -> tuple[str, bytes]:
    """Queue and bytes of an unacknowledged message, from its note or else from the delivered kombu message.

    The fetch script's notes are ``[message,"","queue"]``: cutting that off leaves the very bytes, JSON or not.
    """
    if note is None:
        return ("", b"") if message is None else (queue_of(message), dumps(message._raw).encode())  # noqa: SLF001
    head, separator, tail = note.rpartition(b',"",')
    try:
        [queue] = json.loads(b"[" + tail)
    except (ValueError, RecursionError):
        queue = None
    if separator and isinstance(queue, str) and head.startswith(b"["):
        return queue, head[1:]
    try:
        content, _, routing_key = loads(note)
        return str(routing_key), dumps(content).encode()
    except Exception:  # noqa: BLE001 - a note of anybody: kept whole
        return "", note


def set_aside(message: Any, reason: str, deliveries: int | None = None) -> None:
    """Put a delivered kombu message into quarantine and acknowledge it, on the safe channel in one step.

    On a stock channel the two follow each other; a crash between them leaves the message in both places.
    Connection errors pass through: the message is still unacknowledged then and comes back.
    """
    channel, tag = message.channel, message.delivery_tag
    count = deliveries or 1 + times_died(message._raw)  # noqa: SLF001 - kombu keeps the envelope nowhere else
    if hasattr(channel, "set_aside"):
        channel.set_aside(tag, reason, message, count)
        message._state = "REJECTED"  # noqa: SLF001 - nobody has to answer for it any more
        return
    entry = Entry(dumps(message._raw).encode(), reason, queue_of(message), deliveries=count)  # noqa: SLF001
    with channel.conn_or_acquire() as client:
        client.lpush(names.QUARANTINE, entry.dumps())
    log.error("message in quarantine: %s", reason)
    message.ack()


class QuarantineList:
    """The list for whoever drains it. ``client`` answers bytes; ``steps``, ``prefix`` as the consumers have them."""

    def __init__(self, client: redis.Redis, *, steps: Sequence[int] = (0, 3, 6, 9), prefix: str = "") -> None:
        self._client = client
        self._steps = steps
        self._prefix = prefix
        self._key = prefix + names.QUARANTINE

    def oldest(self, most: int) -> list[bytes]:
        """The oldest entries as they stand, to be read with :meth:`Entry.loads` and given to :meth:`drop`."""
        return self._client.lrange(self._key, -most, -1)[::-1]  # type: ignore[return-value]

    def drop(self, lines: Sequence[bytes]) -> None:
        """Remove entries that are kept elsewhere now; who drains at the same time loses nothing by it."""
        with self._client.pipeline(transaction=False) as pipe:
            for line in lines:
                pipe.lrem(self._key, -1, line)  # type: ignore[arg-type]
            pipe.execute()

    def requeue(self, queue: str, raw: bytes) -> None:
        """Put a message back into its queue, behind all others of its priority, and ring."""
        step = self._steps[bisect(self._steps, _priority(raw)) - 1]
        key = f"{queue}{Channel.sep}{step}" if step else queue
        bell = self._prefix + names.bell(queue)
        with self._client.pipeline(transaction=False) as pipe:
            pipe.lpush(self._prefix + key, raw)
            pipe.lpush(bell, "1")
            pipe.pexpire(bell, names.BELL_LIFE_MS)
            pipe.execute()


def _priority(raw: bytes) -> int:
    try:
        return max(0, min(9, int(json.loads(raw)["properties"]["priority"])))
    except (ValueError, TypeError, KeyError, RecursionError):
        return 0


def queue_of(message: Any) -> str:
    """The queue a message was sent to, by its routing key; good where a queue's key is its name."""
    return str((message.delivery_info or {}).get("routing_key") or "")


def times_died(payload: Any) -> int:
    """How often a consumer fell silent holding this message, as far as the message says."""
    headers = payload.get("headers") if isinstance(payload, dict) else None
    deaths = headers.get(names.DEATHS) if isinstance(headers, dict) else None
    return deaths if isinstance(deaths, int) and deaths > 0 else 0


__all__ = ["Entry", "QuarantineList", "origin", "queue_of", "set_aside", "times_died"]
