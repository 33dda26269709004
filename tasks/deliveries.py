"""The cap on messages that end their processes (row P-11)."""

from __future__ import annotations

from broker.names import DEATHS
from sessionfleet.errors import DeliveryLimit
from sessions.dead_letters import count_delivery
from tasks.runtime import Runtime

CAP = 5
"""Deliveries of one message, the first included."""


def admit(runtime: Runtime, request: object) -> None:
    """Count this start before any of the task's code runs; :class:`DeliveryLimit` beyond CAP.

    Only for a message whose consumer died while it held it: others cost nothing. One that was merely fetched
    together with a deadly one is counted when it is started, and then is done.
    """
    if not getattr(request, DEATHS, 0):
        return
    with runtime.engine.begin() as db:
        deliveries = count_delivery(db, runtime.task_id)
    if deliveries > CAP:
        raise DeliveryLimit(operation=runtime.task_name, deliveries=deliveries - 1, task_id=runtime.task_id)
