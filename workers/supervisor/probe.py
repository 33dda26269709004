"""Whether the fleet works: a real operation through broker, worker, database and back."""

from __future__ import annotations

import threading
import time
from base64 import b64encode
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException

from sessionfleet import Fleet
from sessionfleet.errors import FleetError
from workers.settings import Settings


class Probe(threading.Thread):
    """Creates a session and deletes it again, tries until that worked; a daemon thread.

    ``done`` is set when it went through, and Flower answered if there is one; ``missing`` says what did not work yet,
    ``trouble`` what the last try met. ``settings`` may be replaced meanwhile. Beside it the main thread goes on
    starting processes, which end with the thread that started them.
    """

    def __init__(self, settings: Settings, with_flower: bool) -> None:
        super().__init__(name="probe", daemon=True)
        self.done = threading.Event()
        self.missing = "no operation went through"
        self.trouble = "nothing was tried yet"
        self.settings = settings
        self._stop_asked = threading.Event()
        self._steps: list[Callable[[], None]] = [self._operate]
        if with_flower:
            self._steps.append(self._reach_flower)

    def run(self) -> None:
        while self._steps and not self._stop_asked.is_set():
            try:
                self._steps[0]()
                del self._steps[0]
            except (FleetError, OSError, HTTPException) as error:
                self.trouble = str(error)
                time.sleep(0.2)
        if not self._steps:
            self.done.set()

    def stop(self) -> None:
        """Ends it after the try it is in."""
        self._stop_asked.set()

    def _operate(self) -> None:
        with Fleet.connect(
            broker_url=self.settings.broker_url,
            result_url=self.settings.result_url,
            cache_url=self.settings.cache_url,
            channel_prefix=self.settings.channel_prefix,
        ) as fleet:
            made = fleet.call("session.create", 5, agent_id="fleet-up", session_type="probe", deadline=5)
            fleet.call("session.delete", 5, session_id=made["id"])

    def _reach_flower(self) -> None:
        """Ours takes our password; another fleet's, or another program on that port, does not."""
        self.missing = "Flower did not answer"
        settings = self.settings
        login = b64encode(f"{settings.flower_user}:{settings.flower_password}".encode()).decode()
        connection = HTTPConnection(settings.flower_host, settings.flower_port, timeout=5)
        try:
            connection.request("GET", "/api/tasks?limit=1", headers={"Authorization": f"Basic {login}"})
            status = connection.getresponse().status
        finally:
            connection.close()
        if status != HTTPStatus.OK:
            place = f"{settings.flower_host}:{settings.flower_port}"
            raise OSError(f"what listens on {place} is not the Flower of this fleet: it answered {status}")
