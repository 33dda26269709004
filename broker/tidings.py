"""What the world hears of tasks that were executed together: Celery's events, counters and the log.

Few at once are told one by one, as Celery would. Of a crowd, each kind of task is told once, with the number it
stands for in the event's field ``count``: one event a message would cost more than the task. Flower as the fleet
starts it counts them all; other readers of the events see one of many.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from celery.worker import state

if TYPE_CHECKING:
    from broker.collecting import Call

log = logging.getLogger(__name__)

CROWD = 8
"""More than so many are told by kind."""


class Tidings:
    """Tells of the calls of one consumer. ``dispatcher`` gives its event dispatcher, or None."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer

    def tell(self, calls: Sequence[Call], failed: Mapping[str, str], seconds: float) -> None:
        """``failed``: task id -> the name of the error it ended in; ``seconds``: how long all took together. Never
        raises: the tasks are done."""
        try:
            self._tell(calls, failed, seconds)
        except Exception:
            log.exception("cannot tell of %d tasks", len(calls))

    def _tell(self, calls: Sequence[Call], failed: Mapping[str, str], seconds: float) -> None:
        names = Counter(call.name for call in calls)
        state.total_count.update(names)
        state.all_total_count[0] += len(calls)
        each = seconds / len(calls)
        crowd = len(calls) > CROWD
        kinds: dict[tuple[str, str | None], list[Call]] = {}
        for call in calls:
            kinds.setdefault((call.name, failed.get(call.task_id)), []).append(call)
        for (name, error), same in kinds.items():
            for call in same[:1] if crowd else same:
                self._event(call, name, error, each, len(same) if crowd else 1)
        if log.isEnabledFor(logging.INFO):
            self._log(calls, failed, each, names if crowd else None)

    def _event(self, call: Call, name: str, error: str | None, seconds: float, count: int) -> None:
        dispatcher = self._consumer.event_dispatcher
        if not dispatcher or not dispatcher.enabled:
            return
        more = {"count": count} if count > 1 else {}
        send = dispatcher.send
        send("task-received", uuid=call.task_id, name=name, args="[]", kwargs="{}", retries=0, **more)
        send("task-started", uuid=call.task_id, **more)
        if error is not None:
            send("task-failed", uuid=call.task_id, exception=error, traceback="", **more)
        else:
            send("task-succeeded", uuid=call.task_id, result="", runtime=seconds, **more)

    def _log(self, calls: Sequence[Call], failed: Mapping[str, str], each: float, names: Counter[str] | None) -> None:
        if names is not None:
            log.info(
                "%d tasks together, %d of them failed%s, %.4f s each: %s",
                len(calls),
                len(failed),
                f" ({_counted(Counter(failed.values()))})" if failed else "",
                each,
                _counted(names),
                extra={"tasks": len(calls), "failed": len(failed), "runtime": each},
            )
            return
        for call in calls:
            error = failed.get(call.task_id)
            log.info(
                "Task %s[%s] %s in %.4fs%s",
                call.name,
                call.task_id,
                "succeeded" if error is None else "failed",
                each,
                "" if error is None else f": {error}",
                extra={
                    "task_id": call.task_id,
                    "task_name": call.name,
                    "session_id": call.arguments.get("session_id"),
                    "runtime": each,
                },
            )


def _counted(names: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in names.items())
