"""Giving unacknowledged messages back to their queues."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kombu.utils.json import dumps, loads

from broker import names, quarantine
from broker.asking import Fetched
from broker.scripts import RESTORE

if TYPE_CHECKING:
    from broker.keeping import KeepingChannel

log = logging.getLogger(__name__)

AT_ONCE = 1000
"""Messages one step gives back at most; the server does nothing else meanwhile."""

AT_ONCE_BYTES = 8 * 1024 * 1024
"""Bytes of messages beyond which a step takes no more."""


def give_back(
    channel: KeepingChannel,
    ones: Sequence[str | Fetched],
    client: Any = None,
    *,
    leftmost: bool = False,
    died: bool = False,
    owner: str | None = None,
) -> int:
    """Move messages, the oldest first, from unacknowledged to the head of the queues they came from, each once,
    whoever else tries meanwhile; how many this call moved. ``leftmost``: one message, to the end of its queue.

    They appear in one step, so that nobody takes a newer one before an older one; then the queues are rung for.
    More than ``AT_ONCE`` or ``AT_ONCE_BYTES`` go in several steps, the newest first.

    Those named by their tags are marked as redelivered; ``died`` counts one death of a consumer in their headers. One
    that cannot be read, or whose queue nobody knows any more, goes to quarantine. A :class:`Fetched` was never
    delivered and goes back as it was.
    """
    with channel.conn_or_acquire(client) as client:
        step = _Step(channel, client, owner or channel.owner, leftmost)
        set_aside = 0
        for one in reversed(ones):
            if isinstance(one, Fetched):
                step.add(one.tag, one.raw, [(one.queue, channel.list_of(one.queue, _read(one.raw)))])
                continue
            entry = client.hget(channel.unacked_key, one)
            if entry is None:
                step.add(one, "", [])
                continue
            try:
                message, exchange, routing_key = loads(entry)
                _mark(message, died=died)
                payload = dumps(message)
            except Exception as error:  # noqa: BLE001 - somebody else's bytes must not stop the rest
                set_aside += channel.set_aside(one, f"cannot be returned to a queue: {error!r}", owner=owner)
                continue
            lists = [(queue, channel.list_of(queue, message)) for queue in channel.queues_for(exchange, routing_key)]
            if lists:
                step.add(one, payload, lists)
            else:
                reason = f"no queue for exchange {exchange!r}, key {routing_key!r}"
                set_aside += channel.set_aside(one, reason, owner=owner)
        step.take()
        channel.ring(step.queues)
        return set_aside + step.returned


def _read(raw: bytes) -> Any:
    try:
        return loads(raw)
    except Exception:  # noqa: BLE001 - the next consumer will put it into quarantine
        return None


def _mark(message: Any, *, died: bool) -> None:
    headers = message.get("headers")
    if isinstance(headers, dict):
        headers["redelivered"] = True
        if died:
            headers[names.DEATHS] = quarantine.times_died(message) + 1
    message["properties"]["delivery_info"]["redelivered"] = True


class _Step:
    """What the next run of the script gives back. ``queues``: those of all runs; ``returned``: messages so far."""

    def __init__(self, channel: KeepingChannel, client: Any, owner: str, leftmost: bool) -> None:
        self.queues: set[str] = set()
        self.returned = 0
        self._client = client
        self._key = channel.key
        self._fixed = [channel.unacked_index_key, channel.unacked_key, names.owned(owner)]
        self._leftmost = int(leftmost)
        self._begin()

    def _begin(self) -> None:
        self._count = self._size = 0
        self._lists: dict[str, int] = {}
        self._args: list[str | bytes | int] = [self._leftmost]

    def add(self, tag: str, payload: str | bytes, lists: list[tuple[str, str]]) -> None:
        """One more, in front of those before; ``lists``: each queue it goes to with the key of its list."""
        numbers = [self._lists.setdefault(key, len(self._lists) + 1) for _, key in lists]
        self._args += [tag, payload, len(numbers), *numbers]
        self.queues.update(queue for queue, _ in lists)
        self._count += 1
        self._size += len(payload)
        if self._count >= AT_ONCE or self._size >= AT_ONCE_BYTES:
            self.take()

    def take(self) -> None:
        """Run the script for what was added since the last time."""
        if self._count:
            keys = [self._key(key) for key in (*self._fixed, *self._lists)]
            self.returned += int(RESTORE(self._client, keys, self._args))
            self._begin()
