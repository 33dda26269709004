"""A channel that knows what it holds: acknowledging, giving back, putting into quarantine, leaving."""

from __future__ import annotations

import logging
import os
import socket
import uuid
from abc import abstractmethod
from collections import deque
from contextlib import suppress
from queue import Empty
from typing import Any

import redis

from broker import liveness, names, quarantine, returning
from broker.asking import Fetched
from broker.publishing import RingingChannel
from broker.qos import SafeQoS
from broker.scripts import CHANGE_NAME

log = logging.getLogger(__name__)


LAST_WORD = 0.02
"""Seconds that a consumer which leaves listens for what was just sent to it."""


class KeepingChannel(RingingChannel):
    """What is noted as unacknowledged for this consumer, and how it is let go again."""

    QoS = SafeQoS
    dead_after = 8
    """Seconds of silence after which others take a consumer for dead."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.id = uuid.uuid4().hex[:12]
        self._consumer = f"{socket.gethostname()}:{os.getpid()}:{self.id}"
        self._term = 0
        self.finished: deque[str] = deque()
        """Tags to acknowledge with the next fetch."""
        self._acks_sent: list[str] = []
        self._batch: deque[Fetched] = deque()
        self._request = ""
        """What is being waited for, or was last: "fetch", "bell", "plain"."""
        self._unanswered = False
        """Whether a fetch was sent whose answer has not come: nobody knows what it took."""
        self._acks_refused = False
        super().__init__(*args, **kwargs)

    @property
    def in_loop(self) -> bool:
        """Whether an event loop turns around this channel's transport."""
        return bool(self.connection is not None and self.connection.in_loop)

    @property
    def owner(self) -> str:
        """Under which name this consumer holds messages."""
        return f"{self._consumer}.{self._term}"

    def noted(self, tag: str) -> bool:
        """Whether the tag is one of ours: its message was noted when it was taken."""
        return tag.startswith(f"{self.id}.")

    def separate_pool(self) -> redis.ConnectionPool:
        """Connections of the same kind for another thread."""
        return redis.ConnectionPool(**self._connparams())

    # -- acknowledging -----------------------------------------------------------------------------

    def flush_acks(self) -> None:
        """Send the collected acknowledgements now, on a connection of their own.

        Without success they are kept for the next fetch or turn of the loop, and nothing is raised.
        """
        tags = []
        while self.finished:
            tags.append(self.finished.popleft())
        if not tags:
            return
        try:
            with self.conn_or_acquire() as client, client.pipeline() as pipe:
                pipe.zrem(self.unacked_index_key, *tags).hdel(self.unacked_key, *tags)
                pipe.srem(names.owned(self.owner), *tags)
                pipe.execute()
            self._acks_refused = False
        except (*self.connection_errors, self.ResponseError) as error:
            self.finished.extendleft(reversed(tags))
            (log.debug if self._acks_refused else log.warning)("acknowledgements wait: %s", error)
            self._acks_refused = True

    def _known(self) -> list[str]:
        """The tags of all messages this consumer knows it holds."""
        return [*self.qos.held(), *self.finished, *self._acks_sent, *(one.tag for one in self._batch if one.tag)]

    def _change_name(self) -> None:
        """A fetch was never answered: what it took, or may yet take, must not look held by a living consumer."""
        old = names.owned(self.owner)
        known = self._known()
        self._term += 1
        try:
            if self.in_loop:
                keys = [names.ALIVE, old, names.owned(self.owner)]
                with self.conn_or_acquire() as client:
                    CHANGE_NAME(client, [self.key(key) for key in keys], [self.owner, *known])
        except BaseException:
            self._term -= 1
            raise
        self._unanswered = False

    # -- quarantine --------------------------------------------------------------------------------

    def set_aside(
        self, tag: str, reason: str, message: Any = None, deliveries: int = 1, owner: str | None = None
    ) -> bool:
        """Put an unacknowledged message into quarantine, byte for byte as it came; whether it was still there.

        ``message``: the delivered kombu message, whose content is kept where the noted one is gone.
        """
        with self.conn_or_acquire() as client:
            entry = client.hget(self.unacked_key, tag)
            queue, raw = quarantine.origin(entry, message)
            self._put_away(client, tag, quarantine.Entry(raw, reason, queue, deliveries=deliveries), owner)
        self.qos.forget(tag)
        return entry is not None

    def _refuse(self, one: Fetched, reason: str) -> None:
        with self.conn_or_acquire() as client:
            self._put_away(client, one.tag, quarantine.Entry(one.raw, reason, one.queue))

    def _put_away(self, client: Any, tag: str, entry: quarantine.Entry, owner: str | None = None) -> None:
        with client.pipeline() as pipe:
            pipe.lpush(names.QUARANTINE, entry.dumps())
            if tag:
                pipe.zrem(self.unacked_index_key, tag).hdel(self.unacked_key, tag)
                pipe.srem(names.owned(owner or self.owner), tag)
            pipe.execute()
        log.error("message in quarantine: %s", entry.reason, extra={"queue": entry.queue})

    # -- leaving -----------------------------------------------------------------------------------

    def take_batch(self, queue: str | None = None) -> list[Fetched]:
        """What was fetched and not delivered, which from now on it is not: all of it, or of one queue."""
        taken = [one for one in self._batch if queue in (None, one.queue)]
        self._batch = deque(one for one in self._batch if queue not in (None, one.queue))
        return taken

    def _give_back_batch(self, queue: str | None = None) -> None:
        """Undo the fetch of what was not delivered: all of it, or of one queue."""
        returning.give_back(self, self.take_batch(queue))

    def _basic_cancel(self, consumer_tag: str) -> Any:
        queue = self._tag_to_queue.get(consumer_tag)
        cancelled = super()._basic_cancel(consumer_tag)
        if queue is not None and queue not in self._active_queues:
            self._give_back_batch(queue)
        return cancelled

    def close(self) -> None:
        """Acknowledge what is finished and give back what is not, then as upstream.

        Without a connection the messages stay noted, and others return them as those of a dead consumer.
        """
        if not self.closed and not self._closing:
            self._closing = True
            try:
                self._leave()
            except (*self.connection_errors, self.ResponseError) as error:
                log.warning("left without giving messages back, others will: %s", error)
            late = self.separate_pool()
            super().close()
            # A task may end after its connection: it is still acknowledged where it could not be given back.
            self._pool = late
        else:
            super().close()

    def _leave(self) -> None:
        try:
            self._end_waiting()
        finally:
            if self._request != "plain":
                self._in_poll = False
        if self._qos is not None:
            self.flush_acks()
            self._qos.restore_unacked_once()  # the batch, too; but nothing where it holds nothing
        self._give_back_batch()
        if self.in_loop and not self._unanswered and not self.finished:
            liveness.sign_off(self)

    def _end_waiting(self) -> None:
        if not self._in_poll or self._request == "plain":
            return
        connection = self.client.connection
        if self._request == "bell" and not (self._unanswered and connection.can_read(timeout=LAST_WORD)):
            connection.disconnect()
            self._give_back_unheard()
            return
        with suppress(Empty):
            while connection.can_read(timeout=1):
                if self._hear({}):
                    return
            connection.disconnect()

    def _give_back_unheard(self) -> None:
        """What a fetch behind a wait took for this consumer, if there was one and it still ran. From the moment the
        consumer has signed off such a fetch takes nothing; before that, signing off fails for what it took."""
        with self.conn_or_acquire() as client:
            held = {tag.decode() for tag in client.smembers(names.owned(self.owner))}
            unheard = sorted(held.difference(self._known()), key=names.age)
            returning.give_back(self, unheard, client)
        self.ring(self.active_queues)  # the wait may have taken a bell with it
        self._unanswered = False

    @abstractmethod
    def _hear(self, options: dict[str, Any]) -> bool:
        """Read what has been answered; see :class:`broker.channel.SafeChannel`."""
