"""Giving unacknowledged messages back to their queues."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from kombu.utils.json import dumps, loads

from broker import names, quarantine
from broker.scripts import RESTORE

if TYPE_CHECKING:
    from broker.asking import Fetched
    from broker.keeping import KeepingChannel

log = logging.getLogger(__name__)


def give_back(
    channel: KeepingChannel,
    tag: str,
    client: Any = None,
    *,
    leftmost: bool = False,
    died: bool = False,
    owner: str | None = None,
    later: set[str] | None = None,
) -> bool:
    """Move one message from unacknowledged to the queue it came from, once, whoever else tries meanwhile.

    ``later``: the queue is added to it and not rung. Several go back newest first; whoever waits for the bell would
    take the first of them, and so the last. The caller rings when all are there.

    It is marked as redelivered; ``died`` counts one death of a consumer in its headers. A message that
    cannot be read, or whose queue nobody knows any more, goes to quarantine. Whether this call moved it.
    """
    with channel.conn_or_acquire(client) as client:
        entry = client.hget(channel.unacked_key, tag)
        if entry is None:
            return _move(channel, client, tag, "", [], owner=owner, later=later)
        try:
            message, exchange, routing_key = loads(entry)
            _mark(message, died=died)
            payload = dumps(message)
        except Exception as error:  # noqa: BLE001 - somebody else's bytes must not stop the rest
            return channel.set_aside(tag, f"cannot be returned to a queue: {error!r}", owner=owner)
        lists = [(queue, channel.list_of(queue, message)) for queue in channel.queues_for(exchange, routing_key)]
        if not lists:
            return channel.set_aside(tag, f"no queue for exchange {exchange!r}, key {routing_key!r}", owner=owner)
        return _move(channel, client, tag, payload, lists, leftmost=leftmost, owner=owner, later=later)


def put_back(channel: KeepingChannel, one: Fetched, later: set[str]) -> None:
    """Undo a fetch: the message was never delivered and goes back to the head of its list as it was. ``later``: see
    :func:`give_back`."""
    try:
        message = loads(one.raw)
    except Exception:  # noqa: BLE001 - the next consumer will put it into quarantine
        message = None
    with channel.conn_or_acquire() as client:
        lists = [(one.queue, channel.list_of(one.queue, message))]
        _move(channel, client, one.tag, one.raw, lists, later=later)


def _mark(message: Any, *, died: bool) -> None:
    headers = message.get("headers")
    if isinstance(headers, dict):
        headers["redelivered"] = True
        if died:
            headers[names.DEATHS] = quarantine.times_died(message) + 1
    message["properties"]["delivery_info"]["redelivered"] = True


def _move(
    channel: KeepingChannel,
    client: Any,
    tag: str,
    payload: str | bytes,
    lists: list[tuple[str, str]],
    *,
    leftmost: bool = False,
    owner: str | None = None,
    later: set[str] | None,
) -> bool:
    if later is not None:
        later.update(queue for queue, _ in lists)
    bell_life = names.BELL_LIFE_MS if later is None else 0
    keys = [channel.unacked_index_key, channel.unacked_key, names.owned(owner or channel.owner)]
    for queue, key in lists:
        keys += [key, names.bell(queue)]
    return bool(RESTORE(client, [channel.key(key) for key in keys], [tag, payload, int(leftmost), bell_life]))
