"""Whether the fleet works: a real operation through broker, worker, database and back."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

from sessionfleet import Fleet
from sessionfleet.errors import FleetError
from workers.settings import Settings


class Probe(threading.Thread):
    """Creates a session and deletes it again, tries until that worked; a daemon thread.

    ``done`` is set when it went through; ``trouble`` is what the last try met. Beside it the main thread
    goes on starting processes, which end with the thread that started them.
    """

    def __init__(self, settings: Settings, with_flower: bool) -> None:
        super().__init__(name="probe", daemon=True)
        self.done = threading.Event()
        self.trouble = "nothing was tried yet"
        self._settings = settings
        self._stop_asked = threading.Event()
        self._steps: list[Callable[[], None]] = [self._operate]
        if with_flower:
            self._steps.append(self._reach_flower)

    def run(self) -> None:
        while self._steps and not self._stop_asked.is_set():
            try:
                self._steps[0]()
                del self._steps[0]
            except (FleetError, OSError) as error:
                self.trouble = str(error)
                time.sleep(0.2)
        if not self._steps:
            self.done.set()

    def stop(self) -> None:
        """Ends it after the try it is in."""
        self._stop_asked.set()

    def _operate(self) -> None:
        with Fleet.connect(
            broker_url=self._settings.broker_url,
            result_url=self._settings.result_url,
            cache_url=self._settings.cache_url,
            channel_prefix=self._settings.channel_prefix,
        ) as fleet:
            made = fleet.call("session.create", 5, agent_id="fleet-up", session_type="probe", deadline=5)
            fleet.call("session.delete", 5, session_id=made["id"])

    def _reach_flower(self) -> None:
        place = (self._settings.flower_host, self._settings.flower_port)
        socket.create_connection(place, timeout=2).close()
