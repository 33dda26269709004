"""The ringer beside the fleet's broker channel, which every process installs with the app (row P-11)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from broker.ringer import Ringer
from broker.transport import mismatches
from workers.celery_config import PRIORITY_STEPS, QUEUES
from workers.resources import broker_client
from workers.settings import Settings


@contextmanager
def ringing(settings: Settings, stop: threading.Event) -> Iterator[None]:
    """Rings for producers without bells while the block runs, until ``stop``.

    Where the kombu is one the channel was not tested with, the stock channel is in use and nobody needs bells.
    """
    if mismatches():
        yield
        return
    client = broker_client(settings)
    ringer = Ringer(client, QUEUES, steps=PRIORITY_STEPS)
    thread = threading.Thread(target=ringer.run, args=(stop,), name="ringer", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(10)
        client.close()
