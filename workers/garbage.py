"""Garbage collection of processes that make many short-lived objects and keep what they have imported.

Python looks through everything ever imported each time it collects the oldest generation: tens of milliseconds in a
worker, at random moments of a transaction. What is there when work begins stays; it need not be looked at again.
"""

from __future__ import annotations

import gc
from typing import Any

from celery import signals

THRESHOLDS = (20_000, 20, 50)
"""Objects made until the youngest generation is collected; collections until the next older one is."""


def spare() -> None:
    """Leave what exists now out of all later collections, and collect less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


def connect_garbage() -> None:
    """Have Celery's workers, and children of their pools, do so when they begin to work."""

    def begins(**_: Any) -> None:
        spare()

    signals.worker_ready.connect(begins, weak=False)
    signals.worker_process_init.connect(begins, weak=False)
