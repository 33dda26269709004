"""``python -m workers.relay``: the process that publishes committed events; see docs/architecture.md."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import uuid

from fanout.connection import PATIENT, connect
from fanout.hints import Hints
from fanout.keys import Keys
from fanout.publish import Publisher
from workers.channel import ringing
from workers.garbage import spare
from workers.logging import configure_logging
from workers.preflight import check_servers
from workers.relay_loop import Relay
from workers.resources import build_engine
from workers.settings import Settings, SettingsError

STOPPED_BY = (signal.SIGTERM, signal.SIGINT)


def main() -> int:
    """Runs until SIGTERM or SIGINT; 0 then, 2 with one sentence for settings that do not work.

    PostgreSQL must answer at the start unless lazy_connect; Redis need not, events wait for it.
    """
    try:
        settings = Settings.load()
        configure_logging(settings, "relay")
        check_servers(settings, "database_url")
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    stop = stop_on_signal()
    spare()
    with ringing(settings, stop):
        build_relay(settings).run(stop)
    return 0


def build_relay(settings: Settings) -> Relay:
    """The relay of these settings; connects to nothing yet."""
    client = connect(
        settings.cache_url,
        name="fleet-relay",
        timeout=PATIENT,
        retries=settings.redis_retries,
        retry_delay=settings.redis_retry_delay_ms / 1000,
        max_connections=settings.redis_max_connections,
    )
    publisher = Publisher(client, Keys(settings.channel_prefix, settings.global_channel))
    holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    return Relay(build_engine(settings, name="fleet-relay"), publisher, Hints(client), holder=holder)


def stop_on_signal() -> threading.Event:
    """An event that SIGTERM or SIGINT sets; call before other threads start.

    A thread waits for the signals: a handler would run inside whatever the main thread is doing, and setting
    an event from within the waiting for it can lock up.
    """
    stop = threading.Event()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPED_BY)

    def wait() -> None:
        signal.sigwait(STOPPED_BY)
        stop.set()

    threading.Thread(target=wait, name="signals", daemon=True).start()
    return stop


if __name__ == "__main__":
    sys.exit(main())
