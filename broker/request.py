"""A Celery request that keeps the message of a task that can never succeed.

Set it as a task's ``Request``. Into quarantine go: messages whose process died once more than the task's
``max_retries``, messages whose task raised an error with a true attribute ``dead_letter`` (``deliveries`` on it
is the count), and expired ones, unless the task says ``keep_expired = False``.
"""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery.worker.request import Request

from broker.quarantine import set_aside

log = logging.getLogger(__name__)


class GuardedRequest(Request):  # type: ignore[misc]
    """Runs in the worker's main process, also for tasks of its children."""

    acknowledged: bool

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        """As upstream, which lets a task's MemoryError end the worker."""
        error = exc_info.exception
        error = getattr(error, "exc", error)
        if isinstance(error, MemoryError):
            exc_info, return_ok = _einfo(RuntimeError(f"out of memory: {error}")), False
        elif isinstance(error, (WorkerLostError, SystemExit, KeyboardInterrupt)) and self._out_of_retries():
            deaths = int(self._context.retries) + 1
            self._set_aside(f"the process that ran it died, {deaths} times", deaths)
        elif getattr(error, "dead_letter", False):
            self._set_aside(str(error), int(getattr(error, "deliveries", 1)))
        super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def _out_of_retries(self) -> bool:
        if self._already_cancelled or self._already_revoked:
            return False
        if not self.task.retry_on_worker_lost:
            return not self.task.reject_on_worker_lost
        limit = self.task.max_retries
        return limit is not None and self._context.retries >= limit and not self._success_was_stored()

    def _announce_revoked(self, reason: str, terminated: bool, signum: Any, expired: bool) -> None:
        if expired and getattr(self.task, "keep_expired", True):
            self._set_aside("expired before it was started", 1)
        super()._announce_revoked(reason, terminated, signum, expired)

    def _set_aside(self, reason: str, deliveries: int) -> None:
        if self.acknowledged:
            return
        try:
            set_aside(self.message, reason, deliveries)
        except self.connection_errors:
            log.warning("cannot reach the broker: the message comes back", exc_info=True)
        self.acknowledged = True


def _einfo(error: Exception) -> SimpleNamespace | ExceptionInfo:
    try:
        raise error
    except Exception:  # noqa: BLE001 - Celery wants an error with its traceback
        return ExceptionInfo()
