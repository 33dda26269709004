"""Operations that ran together are counted as so many tasks: by Flower and by ``inspect stats`` (row R-08)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pytest
import requests
from celery import Celery

from tests.integration.flower.test_http_api import _free_port
from tests.support import RunningFleet, eventually
from tests.support.asking import codes, new
from tests.support.batching import at_once
from tests.support.private import private_fleets

METRIC = re.compile(r"^flower_events_total\{([^}]*)\} ([\d.e+]+)$", re.MULTILINE)
FAILED = re.compile(r"failed (?:in [\d.]+s: |\((\d+) )INVALID_TRANSITION")
LABEL = re.compile(r'(\w+)="([^"]*)"')


class Watched:
    """A fleet with one sessions worker and the Flower that looks at it."""

    def __init__(self, fleet: RunningFleet, base: str) -> None:
        self.fleet = fleet
        self.base = base

    def counted(self) -> Counter[tuple[str, str]]:
        """(event type, task name) -> number, of all sessions workers."""
        found = requests.get(f"{self.base}/metrics", timeout=10)
        assert found.status_code == 200, found.text
        counts: Counter[tuple[str, str]] = Counter()
        for labels, number in METRIC.findall(found.text):
            label = dict(LABEL.findall(labels))
            if label["worker"].startswith("sessions"):
                counts[label["type"], label["task"]] += int(float(number))
        return counts

    def failures(self, name: str) -> set[str]:
        """The exceptions of a task's failures in the list of tasks."""
        settings = self.fleet.settings
        found = requests.get(
            f"{self.base}/api/tasks",
            params={"taskname": name, "state": "FAILURE"},
            auth=(settings.flower_user, settings.flower_password),
            timeout=10,
        )
        assert found.status_code == 200, found.text
        return {one["exception"] for one in found.json().values()}

    def total(self) -> Counter[str]:
        """What the worker itself says; without ``limit`` Celery waits for others until the time is over."""
        with Celery(broker=self.fleet.settings.broker_url, set_as_current=False) as app:
            [stats] = app.control.inspect(timeout=30, limit=1).stats().values()
        return Counter(stats["total"])


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    with private_fleets() as make:
        fleet = make(sessions=1, relay=0)
        port = _free_port()
        process = fleet.start("flower", FLEET_FLOWER_PORT=str(port))
        found = Watched(fleet, f"http://127.0.0.1:{port}")

        def sees_the_worker() -> bool:
            assert process.running, process.log_text()
            try:
                fleet.call("session.count")
                return found.counted()["task-succeeded", "session.count"] > 0
            except requests.ConnectionError:
                return False

        eventually(sees_the_worker, 60, every=0.5)
        yield found


@pytest.mark.parametrize("number", [5, 60])
def test_every_operation_is_counted(watched: Watched, number: int) -> None:
    """Few are told one by one, of many each kind is told once, with its number; a failure with its code, also in the
    log."""
    fleet = watched.fleet
    [worker] = fleet.of("sessions")
    read = len(worker.log_text())
    sessions = [new(fleet) for _ in range(number)]
    refused = number // 5
    calls = [("session.append_output", {"session_id": one["id"], "content": "a\n"}) for one in sessions]
    calls += [("session.resume", {"session_id": one["id"]}) for one in sessions[:refused]]
    before, told = watched.counted(), watched.total()
    _, answers = at_once(fleet, calls)
    assert codes(answers) == ["ok"] * number + ["INVALID_TRANSITION"] * refused
    wanted = {
        ("task-received", "session.append_output"): number,
        ("task-started", "session.append_output"): number,
        ("task-succeeded", "session.append_output"): number,
        ("task-received", "session.resume"): refused,
        ("task-failed", "session.resume"): refused,
    }

    def seen() -> bool:
        gained = watched.counted() - before
        return {key: gained[key] for key in wanted} == wanted

    eventually(seen, 30, every=0.2)
    assert watched.failures("session.resume") == {"INVALID_TRANSITION"}

    def logged() -> bool:
        lines = FAILED.findall(worker.log_text()[read:])
        return sum(int(together or 1) for together in lines) == refused

    eventually(logged, 30, every=0.2)
    gained = watched.total() - told
    assert (gained["session.append_output"], gained["session.resume"]) == (number, refused)
