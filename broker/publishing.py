"""A channel whose publishers ring a bell for each message."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from kombu.transport import redis as stock
from kombu.utils.json import dumps

from broker import names


class RingingChannel(stock.Channel):
    """kombu's Redis channel; after each message, also a restored one, goes a bell that wakes one idle consumer."""

    _client: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:
        """As upstream; but one client for each pool, since to make one costs more than its command."""
        if asynchronous:
            return super()._create_client(asynchronous=True)
        if self._client is None or self._client.connection_pool is not self.pool:
            self._client = super()._create_client()
        return self._client

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        """The message, then its bell, in one pipeline; queues that expire are renewed as upstream does."""
        batch = kwargs.get("_publish_batch")
        if batch is not None:
            super()._put(queue, message, **kwargs)
            batch.add("lpush", names.bell(queue), "1")
            batch.add("pexpire", names.bell(queue), names.BELL_LIFE_MS)
            return
        with self.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
            pipe.lpush(self.list_of(queue, message), dumps(message))
            for step in self.priority_steps if queue in self._expires else ():
                pipe.pexpire(self._q_for_pri(queue, step), self._expires[queue])
            self._ring(pipe, queue)
            # A bell that cannot be rung is no reason to tell the publisher that the message was refused.
            published = pipe.execute(raise_on_error=False)[0]
        if isinstance(published, Exception):
            raise published

    def _do_restore_message(
        self, payload: Any, exchange: str, routing_key: str, pipe: Any, leftmost: bool = False
    ) -> None:
        super()._do_restore_message(payload, exchange, routing_key, pipe, leftmost)
        for queue in self.queues_for(exchange, routing_key):
            self._ring(pipe, queue)

    def ring(self, queues: Collection[str]) -> None:
        """Wake one idle consumer of each queue."""
        if not queues:
            return
        with self.conn_or_acquire() as client, client.pipeline(transaction=False) as pipe:
            for queue in queues:
                self._ring(pipe, queue)
            pipe.execute(raise_on_error=False)

    def _ring(self, pipe: Any, queue: str) -> None:
        pipe.lpush(names.bell(queue), "1")
        pipe.pexpire(names.bell(queue), names.BELL_LIFE_MS)

    def key(self, key: str) -> str:
        """A key under the global prefix, for commands the prefixing client does not know."""
        return f"{self.global_keyprefix}{key}"

    def list_of(self, queue: str, message: Any) -> str:
        """The list of a queue that a message of this priority belongs to."""
        return str(self._q_for_pri(queue, self._get_message_priority(message, reverse=False)))

    def queues_for(self, exchange: str | None, routing_key: str) -> list[str]:
        """The queues a message goes to; empty when nobody knows any. One sent to the anonymous exchange
        has its queue's name as routing key."""
        if not exchange:
            return [routing_key] if routing_key else []
        return list(self._lookup(exchange, routing_key))
