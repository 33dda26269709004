"""Which broker channel the processes of the fleet use, and the ringer that belongs to it (row P-11)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from broker.ringer import Ringer
from broker.transport import install, mismatches
from workers.celery_config import PRIORITY_STEPS, QUEUES
from workers.resources import broker_client
from workers.settings import Settings

SAFE = False
"""Whether the channel of :mod:`broker` is used instead of kombu's."""


def use_channel() -> bool:
    """Choose for this process, before it connects; whether it is the safe channel.

    With a kombu the channel was not tested with, the stock one stays and an alarm is logged.
    """
    return SAFE and install()


@contextmanager
def ringing(settings: Settings, stop: threading.Event) -> Iterator[None]:
    """Rings for plain producers while the block runs, until ``stop``; nothing with the stock channel."""
    if not SAFE or mismatches():
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
