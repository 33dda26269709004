"""A kombu Redis channel without a loss window.

Upstream takes a message with BRPOP and notes it as unacknowledged in a second round trip; a worker
killed in between loses it (kombu#305, kombu#1836, celery#4354). Here one script takes and notes, and
carries the acknowledgements of the messages before. Waiting is done on a bell list per queue, which
publishers push to after their message: losing a bell costs at most ``brpop_timeout``, never a message.

kombu's keys stay: a stock worker may share the queue (and keeps its own window), ``restore_visible`` works
on what this notes, Flower and ``inspect`` see what they saw. Delivery tags are this channel's own, a new one
for each delivery: acknowledging one copy of a message never forgets another.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from queue import Empty
from time import monotonic, thread_time
from typing import Any

from kombu.transport import redis as stock
from kombu.utils.json import loads
from kombu.utils.scheduling import priority_cycle
from redis.exceptions import NoScriptError

from broker import body, names, shapes
from broker.asking import Fetch, Fetched
from broker.keeping import KeepingChannel
from broker.scripts import FETCH

log = logging.getLogger(__name__)

FETCH_LIMIT = 64
"""Messages one fetch takes at most."""

SLICE = 0.01
"""Seconds of running tasks after which the rest of a fetch waits for the next turn of the loop."""

AHEAD = 0.05
"""Seconds of tasks one fetch takes at most, by the pace of those before: what is slow stays in the queue, where other
workers and higher priorities find it. What a consumer collects counts by the processor time it takes here: most
of the rest is the same for one message and for many."""

BRIEFLY = 0.008
"""Seconds of collected tasks, by the same measure, for which a consumer asks publishers to wake nobody else: what
they send meanwhile becomes its next list, which costs less than two consumers with a message each."""

FEW = 6
"""Messages up to which that is so. More at once are a sign that there is work for two."""


class SafeChannel(KeepingChannel):
    """See the module docstring. Made by :class:`broker.transport.SafeTransport`."""

    _brpop_sent_at: float | None  # type: ignore[assignment]
    reply_within = 5
    """Seconds beyond ``brpop_timeout`` after which a connection without an answer is given up."""
    largest_message = 64 * 1024 * 1024
    """Bytes of a message beyond which it goes to quarantine unread."""
    from_transport_options = (  # type: ignore[assignment]
        *stock.Channel.from_transport_options,
        "dead_after",
        "reply_within",
        "largest_message",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._without_ack: set[str] = set()
        self._fetches = 0
        self._fetch: Fetch | None = None
        self._bell_next = self._bell_heard = False
        self._fetch_sent = False
        """Whether the last request was, or ended with, a fetch."""
        self._source_needed = True
        self._pace = AHEAD / 4
        """Seconds a message took to deliver, its task in this thread included; lately, on average."""
        self._delivery_seconds, self._fetched_count = 0.0, 0
        self.delivered: Callable[[], None] | None = None
        """Called after each part of a fetch was delivered: for a consumer that collects messages."""
        super().__init__(*args, **kwargs)

    # -- asking ------------------------------------------------------------------------------------

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:
        """As upstream; remembers which queues need no acknowledgement."""
        (self._without_ack.add if no_ack else self._without_ack.discard)(queue)
        return super().basic_consume(queue, no_ack, *args, **kwargs)

    def _brpop_start(self, timeout: float | None = None) -> None:
        """Send the next request on the polled connection: a fetch, or after an empty one a wait."""
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues or self._batch:
            return
        if not self.ack_emulation or self._without_ack.issuperset(queues):
            # Nothing to acknowledge, so nothing to note: any publisher's message is taken at once.
            self._request = "plain"
            super()._brpop_start(timeout)
            return
        if self._unanswered:
            self._change_name()
        connection = self.client.connection
        self._in_poll = connection
        self._brpop_sent_at = monotonic()
        self._request = "bell" if self._bell_next else "fetch"
        commands: list[tuple[Any, ...]] = []
        if self._bell_next:
            wait = self.brpop_timeout if timeout is None else timeout
            commands.append(("BRPOP", *(self.key(names.bell(queue)) for queue in queues), wait or 0))
        # Who holds nothing sends the fetch along: the server runs it the moment the wait is over. Who holds something
        # does not know yet for how many messages there will be room then.
        self._fetch_sent = not self._bell_next or (self.in_loop and not self.qos.held())
        if self._fetch_sent:
            commands.append(self._fetch_command(tuple(queues)))
        connection.send_packed_command(connection.pack_commands(commands))

    def _fetch_command(self, queues: tuple[str, ...]) -> tuple[Any, ...]:
        self._unanswered = True
        while self.finished:
            self._acks_sent.append(self.finished.popleft())
        self._fetch = self._new_fetch(queues, self._room(), waited=self._bell_next)
        keys, args = self._arguments(self._fetch, self._acks_sent)
        script = ("EVAL", FETCH.source) if self._source_needed else ("EVALSHA", FETCH.sha)
        return (*script, len(keys), *keys, *args)

    def _new_fetch(self, queues: tuple[str, ...], limit: int, *, no_ack: bool = False, waited: bool = False) -> Fetch:
        self._fetches += 1
        flags = tuple(no_ack or queue in self._without_ack for queue in queues)
        return Fetch(queues, flags, f"{self.id}.{self._fetches}.", limit, waited)

    def _arguments(self, fetch: Fetch, acks: list[str]) -> tuple[list[str], list[Any]]:
        # Only a consumer in a loop gives signs of life, so only its silence means anything.
        owner = self.owner if self.in_loop else ""
        lists = [self._q_for_pri(queue, step) for step in self.priority_steps for queue in fetch.queues]
        keys = [self.unacked_index_key, self.unacked_key, names.ALIVE, names.owned(owner), names.QUARANTINE]
        args = fetch.arguments(
            owner=owner,
            strict=isinstance(self._queue_cycle, priority_cycle),
            largest=self.largest_message,
            bell_life=names.BELL_LIFE_MS,
            steps=len(self.priority_steps),
            few=min(FEW, int(BRIEFLY / self._pace)) if self.in_loop and self.delivered is not None else 0,
            acks=acks,
        )
        bells, marks = map(names.bell, fetch.queues), map(names.busy, fetch.queues)
        return [self.key(key) for key in (*keys, *bells, *lists, *marks)], args

    def _room(self) -> int:
        # Somebody who polls by hand wants one message at a time; worker_disable_prefetch replaces can_consume.
        if not self.in_loop or "can_consume" in vars(self.qos):
            return 1
        if not self.qos.prefetch_count:
            return FETCH_LIMIT
        room: int = self.qos.can_consume_max_estimate()
        return max(1, min(FETCH_LIMIT, room, int(AHEAD / self._pace)))

    # -- answers -----------------------------------------------------------------------------------

    def _brpop_read(self, **options: Any) -> bool:
        """Read the answer to the last request; deliver what was fetched."""
        if self._request == "plain":
            return bool(super()._brpop_read(**options))
        complete = True
        try:
            complete = self._hear(options)
        finally:
            if complete:
                self._in_poll = False
                self._flush_brpop_reauth()
        if not complete:
            raise Empty
        if self._fetch_sent:
            return self.go_on()
        if self.in_loop and not self._closing and self.qos.can_consume():
            self._brpop_start()  # now and not with the next turn of the loop: somebody waits for an answer
        raise Empty

    def _hear(self, options: dict[str, Any]) -> bool:
        """Read what has been answered; whether that was all. :class:`Empty` when a fetch had nothing."""
        if self._request == "bell":
            self._bell_rang(self._answer(options))
            if self._fetch_sent and not self._more():
                return False
        if self._fetch_sent:
            self._fetched(options)
        return True

    def _poll_error(self, type: str, **options: Any) -> None:  # noqa: A002 - kombu's name
        """A broken connection: what it still says is an answer like any other."""
        if type == "BRPOP":
            self._brpop_read(**options)
        else:
            super()._poll_error(type, **options)

    def _answer(self, options: dict[str, Any]) -> Any:
        try:
            return self.client.connection.read_response(**options)
        except self.connection_errors:
            self.client.connection.disconnect()
            raise

    def _more(self) -> bool:
        """Whether the answer after this one is there, too."""
        try:
            return bool(self.client.connection.can_read(timeout=0))
        except self.connection_errors:
            self.client.connection.disconnect()
            raise

    def _bell_rang(self, answer: Any) -> None:
        self._bell_next, self._bell_heard = False, bool(answer) and self._fetch_sent
        self._request, self._brpop_sent_at = "fetch", monotonic()
        if answer and not self.active_queues:
            self.ring([answer[0].decode().removeprefix(self.key(names.bell("")))])

    def _fetched(self, options: dict[str, Any]) -> None:
        """Takes the answer of a fetch into the batch; :class:`Empty` when it held nothing."""
        try:
            answer = self._answer(options)
        except NoScriptError:
            self._source_needed, self._unanswered, self._bell_heard = True, False, False
            raise Empty from None
        self._source_needed = self._unanswered = False
        self._acks_sent = []
        # Nothing there although it rang: somebody was faster, or others took this consumer for dead, which is known
        # again by a fetch without a wait.
        self._bell_next = not answer and not self._bell_heard
        self._bell_heard = False
        if self._fetch is not None:
            self._batch.extend(self._fetch.unpack(answer))
        if not self._batch:
            raise Empty
        self._delivery_seconds, self._fetched_count = 0.0, len(self._batch)

    def drop_silent_connection(self) -> None:
        """Give up a connection whose answer is ``reply_within`` seconds overdue: nobody is at its other end."""
        connection: Any = self._in_poll
        if not connection or not self.brpop_timeout or self._brpop_sent_at is None:
            return
        waited = monotonic() - self._brpop_sent_at
        sock = connection._sock  # noqa: SLF001 - as upstream
        if waited > self.brpop_timeout + self.reply_within and sock and not stock._socket_readable(sock):  # noqa: SLF001
            log.warning("no answer from Redis for %.0f seconds, connecting anew", waited)
            connection.disconnect()

    # -- delivering --------------------------------------------------------------------------------

    def go_on(self) -> bool:
        """Deliver what was fetched, for ``SLICE`` seconds; the loop goes on with the rest after a turn, so that
        slow tasks delay neither acknowledgements nor remote control nor shutdown. Whether there was anything."""
        if not self._batch:
            return False
        began = monotonic()
        until = began + SLICE
        try:
            while self._batch and not self._closing:
                self._take(self._batch.popleft())
                if not self.in_loop or monotonic() >= until:
                    break
            self._delivery_seconds += monotonic() - began
            if self.delivered is not None:
                worked = thread_time()
                self.delivered()
                self._delivery_seconds += thread_time() - worked
            if not self._batch and self._fetched_count:
                last = self._delivery_seconds / self._fetched_count
                self._pace, self._fetched_count = max(1e-6, (self._pace + last) / 2), 0
        finally:
            if self._batch and self.connection is not None:
                self.connection.wake()
        return True

    def _take(self, one: Fetched) -> None:
        queue, tag, raw = one
        self._queue_cycle.rotate(queue)
        if queue not in self.connection._callbacks:  # noqa: SLF001 - the transport is ours too
            self._batch.appendleft(one)
            self._give_back_batch(queue)
            return
        message, reason = read(raw)
        if reason is not None:
            self._refuse(one, reason)
            return
        if tag:
            message["properties"]["delivery_tag"] = tag
        try:
            self.connection._deliver(message, queue)  # noqa: SLF001
        except Exception as error:
            if not tag or tag in self.qos._delivered:  # noqa: SLF001
                raise
            self._refuse(one, f"cannot be made a message: {error!r}")

    def basic_get(self, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        """One message now, or None; noted like any other where it needs an acknowledgement."""
        if not self.ack_emulation:
            return super().basic_get(queue, no_ack, **kwargs)
        fetch = self._new_fetch((queue,), 1, no_ack=no_ack)
        with self.conn_or_acquire() as client:
            answer = FETCH(client, *self._arguments(fetch, []))
            self._maybe_update_queues_expire(client, queue)
        for one in fetch.unpack(answer):
            content, reason = read(one.raw)
            if reason is not None:
                self._refuse(one, reason)
                return None
            if one.tag:
                content["properties"]["delivery_tag"] = one.tag
            message = self.Message(content, channel=self)
            if one.tag:
                self.qos.append(message, one.tag)
            return message
        return None

    def _receive_one(self, c: Any) -> Any:
        """As upstream; a broadcast nested too deeply is dropped, too."""
        try:
            return super()._receive_one(c)
        except RecursionError:
            log.warning("a broadcast is nested too deeply, dropped")
            raise Empty from None

    def _deliver_fanout_message(self, message: Any, exchange: str) -> bool:
        """As upstream; a broadcast in a wrong shape is dropped: everybody got it, nobody can take it."""
        reason = shapes.flaw(message)
        if reason is None and exchange not in self._fanout_to_queue:
            reason = "nobody listens"
        if reason is None:
            message["properties"].setdefault("delivery_tag", "")
            return bool(super()._deliver_fanout_message(message, exchange))
        log.warning("broadcast to %s dropped: %s", exchange, reason)
        return True


def read(raw: bytes) -> tuple[Any, str | None]:
    """The decoded message and what is wrong with it, if anything."""
    try:
        message = body.plain(raw)
    except ValueError:
        try:
            message = loads(raw)
        except Exception as error:  # noqa: BLE001 - bytes of anybody, with decoders of anybody
            return None, f"not JSON: {error}"
    return message, shapes.flaw(message)
