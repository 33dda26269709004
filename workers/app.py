"""The composition root: settings -> Celery app with its tasks and, per process, its runtime."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from typing import Any

from celery import Celery

from broker import body
from broker.transport import install
from sessionfleet.errors import UnknownOperation, ValidationFailed
from tasks.base import register
from tasks.runtime import Runtime
from tasks.together import Call, Ran, collected_names, run_together
from workers.celery_config import celery_config
from workers.resources import build_policy, build_runtime
from workers.sending import Sender
from workers.settings import Settings


class FleetApp(Celery):  # type: ignore[misc]
    """A Celery app that knows its settings and hands its tasks one :class:`Runtime` per process."""

    settings: Settings
    unknown_task_error: Callable[[str], Exception]
    unreadable_message_error: Callable[[str], Exception]
    collected_tasks: frozenset[str]
    _runtime: tuple[int, Runtime] | None = None

    @property
    def runtime(self) -> Runtime:
        """This process's resources, made at first use, so never inherited over a fork: a pooled
        connection shared by two processes mixes their answers up."""
        pid = os.getpid()
        if self._runtime is None or self._runtime[0] != pid:
            self._runtime = (pid, build_runtime(self.settings, Sender(self), self.backend.answer))
        return self._runtime[1]

    def run_collected(self, calls: Sequence[Call], behind: Collection[str] = (), **options: Any) -> Ran:
        """Execute waiting operations together (:func:`tasks.together.run_together`, for :mod:`broker.collecting`)."""
        return run_together(self.runtime, calls, behind, **options)


def create_app(settings: Settings) -> FleetApp:
    """The fleet's app for these settings: configuration, queues, beat entries, every declared task.

    Connects to nothing. Whatever this process connects to Redis queues from now on uses the channel of
    :mod:`broker`.
    """
    import tasks.all  # noqa: F401 - importing the room declares its tasks

    body.install()
    install()  # with a kombu it was not tested with, the stock channel stays and an alarm is logged
    app = FleetApp("sessionfleet", set_as_current=True)
    app.settings = settings
    build_policy(settings)  # what is wrong with it is said at the start, not at the first task
    app.conf.update(celery_config(settings))
    app.unknown_task_error = lambda name: UnknownOperation(operation=name)
    app.unreadable_message_error = lambda reason: ValidationFailed.of("message", reason)
    register(app)
    app.collected_tasks = collected_names()
    return app
