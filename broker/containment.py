"""Ends a task, and not its process, with the errors that Python does not count as such."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from billiard.common import terminate_handler_fired
from celery.exceptions import WorkerShutdown, WorkerTerminate


@contextmanager
def contained(make_error: Callable[[str], Exception]) -> Iterator[None]:
    """Turns SystemExit, KeyboardInterrupt and MemoryError of the block into ``make_error(reason)``, which is
    called where ``sys.exc_info()`` still knows the cause.

    A stop of the worker itself (a signal to the child, a warm or cold shutdown) passes.
    """
    try:
        yield
        return
    except MemoryError:
        error = make_error("out of memory")
    except (SystemExit, KeyboardInterrupt) as end:
        if isinstance(end, (WorkerShutdown, WorkerTerminate)) or terminate_handler_fired():
            raise
        error = make_error(f"the task tried to end its process: {end!r}")
    raise error  # out here nothing of what filled the memory is held any more
