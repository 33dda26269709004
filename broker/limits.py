"""Time limits for tasks that run in the worker's own thread (the solo pool), where upstream has none.

The soft limit raises SoftTimeLimitExceeded inside the task, as in a prefork child. The hard one ends it with
:class:`TimeIsUp`, which handlers of ordinary errors let pass, and reports it like prefork does; a task that holds
on even then ends its process, and its message comes back with one death more. Nothing happens inside a call that
does not return to Python: statements and sockets need timeouts of their own.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from billiard.exceptions import SoftTimeLimitExceeded
from celery.concurrency.base import apply_target

log = logging.getLogger(__name__)

PATIENCE = 5.0
"""Seconds between the hard limit and the end of the process."""


class TimeIsUp(BaseException):
    """The hard limit of a task; not an Exception, so that it is not taken for an error of the task."""


def apply_limited(
    target: Any,
    args: Any = (),
    kwargs: Any = None,
    *,
    soft_timeout: float | None = None,
    timeout: float | None = None,
    timeout_callback: Any = None,
    **options: Any,
) -> Any:
    """Run a task as the solo pool does, within its limits in seconds."""
    try:
        with limited(soft_timeout, timeout):
            return apply_target(target, args, kwargs, propagate=(TimeIsUp,), **options)
    except TimeIsUp:
        if timeout_callback is None:
            raise
        return timeout_callback(False, timeout)


@contextmanager
def limited(soft: float | None, hard: float | None) -> Iterator[None]:
    """The block within these limits in seconds: SoftTimeLimitExceeded, then :class:`TimeIsUp` inside it."""
    if not (soft or hard) or threading.current_thread() is not threading.main_thread():
        yield
        return
    _clock.start(soft, hard)
    try:
        yield
    finally:
        _clock.stop()


class _Clock:
    """Rings at the soft limit, at the hard one, and at the end of all patience. A process has one timer, so one of
    these; its handler stays once it is there: to exchange it for each task takes longer than all else here."""

    def __init__(self) -> None:
        self._heard = self._runs = False
        self._soft: float | None = None
        self._hard: float | None = None
        self._rung = 0

    def start(self, soft: float | None, hard: float | None) -> None:
        if not self._heard:
            signal.signal(signal.SIGALRM, self._ring)
            self._heard = True
        self._hard = hard
        self._soft = soft if soft and (not hard or soft < hard) else None
        self._rung = 0 if self._soft else 1
        self._runs = True
        signal.setitimer(signal.ITIMER_REAL, max(0.0, self._soft or self._hard or 0))

    def stop(self) -> None:
        self._runs = False
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _ring(self, _signal: int, _frame: FrameType | None) -> None:
        if not self._runs:
            return
        self._rung += 1
        if self._rung == 1:
            if self._hard:
                signal.setitimer(signal.ITIMER_REAL, max(0.001, self._hard - (self._soft or 0)))
            raise SoftTimeLimitExceeded(self._soft)
        if self._rung == 2:
            signal.setitimer(signal.ITIMER_REAL, PATIENCE)
            raise TimeIsUp
        log.critical("a task does not end at its time limit: this process does")
        os.kill(os.getpid(), signal.SIGKILL)


_clock = _Clock()
