"""The fleet's app with tasks that end their process, on the safe channel with quick returns; for worker processes."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

from broker.transport import install
from sessionfleet.messages.base import Duty
from tasks.base import duty
from tasks.runtime import Runtime
from workers.app import create_app
from workers.logging import connect_celery
from workers.settings import Settings


class End(Duty, name="test.end"):
    """Ends its process in one of several ways."""

    answer: ClassVar[str] = "nothing"

    how: str


@duty(End)
def end(runtime: Runtime, command: End) -> dict[str, Any]:
    """See :data:`WAYS`."""
    with Path(os.environ["DEADLY_NOTES"]).open("a") as notes:
        notes.write(f"{command.how}\n")
    WAYS[command.how]()
    return {"lived": True}


def _use_memory() -> None:
    raise MemoryError("on purpose")


def _use_all_memory() -> None:
    """Until the process may have no more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**26, hard))
    try:
        heap = [bytearray(2**20)]
        while True:
            heap.append(bytearray(2**20))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))


def _loop() -> None:
    while True:
        time.sleep(0.01)


WAYS = {
    "exit": lambda: sys.exit(3),
    "os._exit": lambda: os._exit(4),
    "segfault": lambda: ctypes.string_at(0),
    "memory": _use_memory,
    "limit": _use_all_memory,
    "out of memory": lambda: os.kill(os.getpid(), signal.SIGKILL),  # what the kernel does then
    "loop": _loop,
    "live": lambda: None,
}

assert install()
app = create_app(Settings.load())
app.conf.broker_transport_options = {**app.conf.broker_transport_options, "dead_after": 1}
connect_celery(app.settings)
