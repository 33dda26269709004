"""What is delivered and not yet acknowledged: acknowledgements ride on the next fetch."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from kombu.transport import redis as stock
from kombu.transport.virtual import base as virtual
from kombu.utils.encoding import bytes_to_str

from broker import names, returning

if TYPE_CHECKING:
    from broker.keeping import KeepingChannel

log = logging.getLogger(__name__)

FLUSH_AT = 512
"""Collected acknowledgements that are not left waiting for the next turn of the loop."""


class SafeQoS(stock.QoS):
    """Unacknowledged messages were noted by the fetch script; here is only the local table."""

    channel: KeepingChannel

    def append(self, message: Any, delivery_tag: str) -> None:
        """Take over a fetched message; one that came another way (fanout) is noted as upstream does."""
        if self.channel.noted(delivery_tag):
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)

    def holds(self, delivery_tag: str) -> bool:
        """Whether the message was delivered and nobody has finished with it."""
        return delivery_tag in self._delivered and delivery_tag not in self._dirty

    def held(self) -> list[str]:
        """The tags of all such messages."""
        return [tag for tag in self._delivered if tag not in self._dirty]

    def ack(self, delivery_tag: str) -> None:
        """Finished. In an event loop the tag waits for the next fetch or turn, at most; else it goes now."""
        if not self.channel.in_loop:
            super().ack(delivery_tag)
            return
        self.channel.finished.append(delivery_tag)
        virtual.QoS.ack(self, delivery_tag)
        if len(self.channel.finished) >= FLUSH_AT:
            self.channel.flush_acks()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Back to the end of its queue, as upstream; or into quarantine, where upstream forgets it."""
        if requeue:
            self.restore_by_tag(delivery_tag, leftmost=True)
            virtual.QoS.ack(self, delivery_tag)
        else:
            self.channel.set_aside(delivery_tag, "rejected by its consumer")

    def forget(self, delivery_tag: str) -> None:
        """The message is no longer unacknowledged; nothing is sent."""
        if delivery_tag in self._delivered:
            virtual.QoS.ack(self, delivery_tag)

    def restore_by_tag(self, tag: str, client: Any = None, leftmost: bool = False) -> bool:
        """Give an unacknowledged message back to its queue; whether it was this call that did."""
        return bool(returning.give_back(self.channel, [bytes_to_str(tag)], client, leftmost=leftmost))

    def restore_unacked(self, client: Any = None) -> None:
        """Give everything back that is not finished, and what was fetched and not delivered yet, in one step;
        acknowledgements come first."""
        self.channel.flush_acks()
        returning.give_back(self.channel, [*self.held(), *self.channel.take_batch()], client)
        self._delivered.clear()
        self._dirty.clear()

    def restore_visible(self, start: int = 0, num: int | None = 10, interval: int = 10) -> None:
        """As upstream, but by the server's clock: one worker whose clock is ahead must not take all messages
        of the others for overdue. Needs no mutex, so none that a killed worker could leave behind."""
        self._vrestore_count += 1
        if (self._vrestore_count - 1) % (interval or 1):
            return
        with self.channel.conn_or_acquire() as client:
            seconds, micros = client.time()
            overdue = seconds + micros / 1e6 - self.visibility_timeout
            found = client.zrange(
                self.unacked_index_key,
                overdue,
                0,
                desc=True,
                withscores=True,
                byscore=True,
                offset=num and start,
                num=num,
            )
            # All messages of one fetch have the same score, and the server puts their tags in the order of text.
            found.sort(key=lambda one: (one[1], names.age(bytes_to_str(one[0]))))
            returning.give_back(self.channel, [bytes_to_str(tag) for tag, _ in found], client, died=True)

    def _remove_from_indices(self, delivery_tag: str, pipe: Any = None) -> Any:
        removed = super()._remove_from_indices(delivery_tag, pipe)
        return removed.srem(names.owned(self.channel.owner), delivery_tag)
