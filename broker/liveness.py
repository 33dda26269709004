"""Returning the messages of dead consumers long before the visibility timeout.

The fetch script notes in a set which messages a consumer holds, and in a sorted set when it was last known
to live, by the server's clock. The event loop repeats that every ``BEAT`` seconds, and for a pool that runs
tasks in the loop's own thread :class:`Heartbeat` does. Any consumer returns what a silent one holds. One that
was only cut off runs its messages beside the second copy: tasks must be idempotent, as on any queue that
delivers at least once.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import redis

from broker import names, returning
from broker.scripts import ROLL_CALL, SIGN_OFF

if TYPE_CHECKING:
    from broker.keeping import KeepingChannel

log = logging.getLogger(__name__)

BEAT = 2.0
"""Seconds between two signs of life."""


def return_messages_of_the_dead(channel: KeepingChannel) -> int:
    """Give a sign of life, then give the messages of consumers silent for ``dead_after`` seconds back to their
    queues; how many.

    Any number of sweepers at once: each message goes back in a script of its own that only one wins.
    Errors of the connection are logged and left to the next sweep.
    """
    try:
        return _sweep(channel)
    except channel.connection_errors:
        log.debug("sweep of dead consumers: connection error, will try again", exc_info=True)
    except channel.ResponseError as error:
        log.warning("sweep of dead consumers: %s", error)
    return 0


def _sweep(channel: KeepingChannel) -> int:
    returned = 0
    with channel.conn_or_acquire() as client:
        alive = channel.key(names.ALIVE)
        for name in ROLL_CALL(client, [alive], [channel.owner, channel.dead_after]):
            consumer = name.decode()
            held = names.owned(consumer)
            tags = sorted((tag.decode() for tag in client.smembers(held)), key=names.age)
            found = returning.give_back(channel, tags, client, died=True, owner=consumer)
            SIGN_OFF(client, [alive, channel.key(held)], [consumer, channel.dead_after])
            if found:
                log.warning("returned %d messages of %s", found, consumer)
            returned += found
    return returned


def sign_off(channel: KeepingChannel) -> None:
    """A consumer that leaves in order need not be waited for; one that still holds something stays listed."""
    with channel.conn_or_acquire() as client:
        SIGN_OFF(client, [channel.key(names.ALIVE), channel.key(names.owned(channel.owner))], [channel.owner, ""])


class Heartbeat(threading.Thread):
    """Signs of life while the event loop is busy with a task of its own thread.

    For pools that run tasks there and never fork (solo). It ends with ``stop()`` or with the channel.
    """

    def __init__(self, channel: KeepingChannel) -> None:
        super().__init__(name="broker-heartbeat", daemon=True)
        self._channel = channel
        self._end = threading.Event()
        self._pool = channel.separate_pool()

    def run(self) -> None:
        """Until it is told to stop."""
        client = redis.Redis(connection_pool=self._pool)
        while not self._end.wait(BEAT) and not self._channel.closed:
            try:
                ROLL_CALL(client, [self._channel.key(names.ALIVE)], [self._channel.owner, ""])
            except (redis.RedisError, OSError):
                log.debug("heartbeat: will try again", exc_info=True)
        self._pool.disconnect()

    def stop(self) -> None:
        """End it; returns at once."""
        self._end.set()
