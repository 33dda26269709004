"""The transport around :class:`broker.channel.SafeChannel`, and how a process comes to use it.

``install()`` makes it what ``redis://`` and ``rediss://`` mean in this process. kombu has no public place for such a
channel, so this leans on private names; ``mismatches()`` checks each before anything is replaced, and if one is
missing the stock transport stays and an alarm is logged.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from time import monotonic
from typing import Any

import kombu
import redis
from kombu import transport as kombu_transport
from kombu.transport import redis as stock
from kombu.transport.virtual import base as virtual

from broker import liveness
from broker.channel import SafeChannel

log = logging.getLogger(__name__)

TESTED = ((5, 7),)
"""Minor releases of kombu that the tests of this room ran with."""

SCHEMES = ("redis", "rediss")

_NAMES: tuple[tuple[Any, str], ...] = (
    (stock.Channel, "_basic_cancel _brpop_read _brpop_sent_at _brpop_start _closing _connparams _in_poll _lookup"),
    (stock.Channel, "_create_client"),
    (stock.Channel, "_deliver_fanout_message _do_restore_message _flush_brpop_reauth _get_message_priority _put"),
    (stock.Channel, "_maybe_update_queues_expire _poll_error _q_for_pri _receive_one ack_emulation active_queues"),
    (stock.Channel, "basic_consume basic_get client close conn_or_acquire global_keyprefix priority_steps qos"),
    (stock.Channel, "unacked_index_key unacked_key"),
    (stock.QoS, "_remove_from_indices ack append reject restore_by_tag restore_unacked restore_visible"),
    (stock.QoS, "unacked_index_key unacked_key visibility_timeout"),
    (virtual.QoS, "_delivered _dirty ack append can_consume can_consume_max_estimate prefetch_count"),
    (virtual.QoS, "restore_unacked_once"),
    (stock.MultiChannelPoller, "get maybe_check_brpop_health maybe_restore_messages on_poll_init on_poll_start"),
    (stock.Transport, "_callbacks _deliver close_connection cycle register_with_event_loop"),
    (stock, "_socket_readable"),
    (kombu_transport, "TRANSPORT_ALIASES _transport_cache"),
    (redis.Connection, "can_read disconnect pack_commands read_response send_packed_command"),
)


class SafePoller(stock.MultiChannelPoller):
    """Also sends acknowledgements that found no fetch to ride on, and looks after dead consumers."""

    _channels: set[SafeChannel]
    _swept_at = 0.0
    _looked_at = 0.0

    def on_poll_init(self, poller: Any) -> None:
        """As upstream; a server that refuses the first look at overdue messages does not stop a worker's start."""
        self.poller = poller
        self.maybe_restore_messages()

    def on_poll_start(self) -> None:
        """One turn of the loop: fetch where there is room; what is then still to be acknowledged goes now."""
        super().on_poll_start()
        for channel in list(self._channels):
            channel.flush_acks()

    def go_on(self) -> None:
        """Deliver more of what was fetched."""
        for channel in list(self._channels):
            channel.go_on()

    def get(self, callback: Any, timeout: float | None = None) -> None:
        """For consumers that poll by hand: what is left of a fetch comes first. Overdue messages are looked for here,
        as upstream does only after a wait that nothing ended, and a wait for a bell ends."""
        if any(channel.go_on() for channel in list(self._channels)):
            return
        if monotonic() - self._looked_at > liveness.BEAT:
            self._looked_at = monotonic()
            self.maybe_restore_messages()
        super().get(callback, timeout)

    def look_after(self) -> None:
        """Give a sign of life, return the messages of the dead, give up connections that do not answer."""
        self.maybe_check_brpop_health()
        for channel in list(self._channels):
            if channel.active_queues:
                liveness.return_messages_of_the_dead(channel)

    def maybe_restore_messages(self) -> None:
        """As upstream by visibility timeout; for consumers without a loop also those of dead consumers."""
        for channel in list(self._channels):
            if not channel.active_queues:
                continue
            try:
                channel.qos.restore_visible(
                    num=channel.unacked_restore_limit, interval=channel.unacked_restore_throttle
                )
            except channel.connection_errors:
                log.debug("overdue messages: connection error, will try again", exc_info=True)
            except channel.ResponseError as error:
                log.warning("overdue messages: %s", error)
            if not channel.in_loop and monotonic() - self._swept_at > liveness.BEAT:
                self._swept_at = monotonic()
                liveness.return_messages_of_the_dead(channel)
            return

    def maybe_check_brpop_health(self) -> None:
        """Drop a connection whose answer is overdue; sooner than upstream, which waits for a health check."""
        for channel in list(self._channels):
            channel.drop_silent_connection()


class SafeTransport(stock.Transport):
    """kombu's Redis transport with the safe channel."""

    Channel = SafeChannel
    in_loop = False
    _loop: Any = None
    _waker: Waker | None = None

    cycle: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = SafePoller()

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """From here on acknowledgements may wait for the next turn of ``loop``."""
        self.in_loop, self._loop, self._waker, self._pid = True, loop, Waker(), os.getpid()
        super().register_with_event_loop(connection, loop)
        loop.add_reader(self._waker.fileno(), self._woken)
        self._timer = loop.call_repeatedly(liveness.BEAT, self.cycle.look_after)

    def wake(self) -> None:
        """Have the loop go on with a delivery that was cut; a tick would come only when something else happens."""
        if self._waker is not None:
            self._waker.wake()

    def _woken(self) -> None:
        if self._waker is not None:
            self._waker.heard()
            self.cycle.go_on()

    def close_connection(self, connection: Any) -> None:
        """As upstream; takes what was registered out of the loop."""
        waker, self._waker = self._waker, None
        if waker is not None and os.getpid() == self._pid:  # a forked child shares the loop's poller
            self._timer.cancel()
            self._loop.remove_reader(waker.fileno())
            waker.close()
        super().close_connection(connection)


class Waker:
    """A file that becomes readable when it is told to."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def fileno(self) -> int:
        return self._read

    def wake(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._write, b"\0")

    def heard(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._read, 4096)

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


def mismatches() -> list[str]:
    """What this room needs and this kombu or redis-py lacks; empty when all is well."""
    version = [] if kombu.VERSION[:2] in TESTED else [f"kombu {kombu.__version__} was never tested"]
    return version + [
        f"{getattr(owner, '__qualname__', owner.__name__)}.{name} is missing"
        for owner, names in _NAMES
        for name in names.split()
        if not hasattr(owner, name)
    ]


def install() -> bool:
    """Make ``redis://`` mean the safe transport for connections this process makes from now on.

    False and an alarm when kombu is not the one this was written for: the stock transport stays. Idempotent.
    """
    if found := mismatches():
        log.critical("the stock Redis channel stays, messages can be lost: %s", "; ".join(found))
        return False
    _use("broker.transport:SafeTransport")
    return True


def uninstall() -> None:
    """The stock transport again, for connections this process makes from now on."""
    _use("kombu.transport.redis:Transport")


def _use(path: str) -> None:
    for scheme in SCHEMES:
        kombu_transport.TRANSPORT_ALIASES[scheme] = path
        kombu_transport._transport_cache.pop(scheme, None)  # noqa: SLF001 - it remembers what a name meant before
