"""``fleet demo``: the life of a session in front of the reader, told by its own events."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import click

from sessionfleet import Fleet
from sessionfleet.errors import FleetError, SessionNotFound
from workers.cli.reach import reached
from workers.cli.running import load_settings
from workers.cli.stage import Stage

SHORTEST = {"test": 6}
"""Seconds of inactivity the demo's session is given; elsewhere the shortest a fleet allows."""

SHORTEST_ELSEWHERE = 60
REVIEW_EVERY = 5
REVIEW_WITHIN = 45.0

LIFE = (
    "session.created",
    "session.started",
    "session.updated",
    "output.received",
    "error.received",
    "session.paused",
    "session.resumed",
    "session.timeout_warning",
    "session.expired",
    "session.deleted",
)
REVIEW = ("session.created", "session.started", "schedule.fired", "session.updated", "session.completed")


@click.command()
def demo() -> None:
    """Show a session's life with its events beside it; about a minute.

    Created, started, context merged, output, paused, resumed, warned, reviewed by a schedule, expired,
    cleaned up. Exit code 0 only when every expected event was really seen.
    """
    environment = load_settings().environment
    timeout = SHORTEST.get(environment, SHORTEST_ELSEWHERE)
    with reached() as fleet, Stage(fleet) as stage:
        play = Play(fleet, stage, timeout)
        with play.tidied():
            play.begin()
            play.work()
            play.rest()
            play.wait_for_the_end()
        complete = stage.summary({"session": (play.session_id, LIFE), "review": (play.review_id, REVIEW)})
    sys.exit(0 if complete else 1)


@dataclass
class Play:
    """The steps; each sends one operation and waits for its event."""

    fleet: Fleet
    stage: Stage
    timeout: int
    owner: str = field(default_factory=lambda: f"demo-{secrets.token_hex(4)}")
    session_id: str = ""
    review_id: str = ""
    schedule_id: str = ""

    def begin(self) -> None:
        """Created and started."""
        self.stage.say(
            f"A session with timeout_seconds={self.timeout}, "
            + ("" if self.timeout < SHORTEST_ELSEWHERE else "the shortest this fleet allows, ")
            + "so that you see it time out. Lines beginning with | are its events, as subscribers get them."
        )
        document = self.do(
            "session.create",
            agent_id="demo-agent",
            owner_id=self.owner,
            session_type="development",
            timeout_seconds=self.timeout,
            context={"working_directory": "/project", "plan": {"step": 1, "of": 3}},
        )
        self.session_id = document["id"]
        self.stage.follow(self.session_id)
        self.expect("session.created")
        self.verb("start", "session.started")

    def work(self) -> None:
        """Context merged, output on both streams."""
        document = self.verb(
            "update_context", "session.updated", context={"plan": {"step": 2}, "branch": "fix/login"}
        )
        self.stage.say(f"Merged, not replaced: context is now {document['context']}")
        self.verb("append_output", "output.received", content="running 12 tests\n12 passed\n")
        self.verb("append_output", "error.received", content="warning: deprecated call\n", stream="stderr")

    def rest(self) -> None:
        """Paused and resumed."""
        self.verb("pause", "session.paused", reason="waiting for a person")
        document = self.verb("resume", "session.resumed")
        self.stage.say(f"From here on nobody touches it; it expires at {document['expires_at']}.")

    def wait_for_the_end(self) -> None:
        """Warned, reviewed while its time runs out, expired, deleted."""
        self.duty("maintenance.timeout_warnings", "beat fires it every minute", "warned")
        warning = self.expect("session.timeout_warning")
        self.stage.say(f"Warned with the real rest: {warning['timeout_in_seconds']} seconds.")
        self.review()
        self.let_it_expire()
        document = self.do("session.get", session_id=self.session_id)
        self.stage.say(
            f"status={document['status']}, end_reason={document['end_reason']}, "
            f"{document['output_lines']} lines of output, version {document['state_version']}"
        )
        self.do("session.delete", session_id=self.session_id)
        self.expect("session.deleted")
        self.sweep()
        try:
            self.fleet.call("session.get", session_id=self.session_id)
        except SessionNotFound as error:
            self.stage.say(f"Cleaned up: {error}")

    def review(self) -> None:
        """An interval schedule fires and reviews the owner's sessions."""
        schedule = self.do(
            "schedule.create", schedule_type="interval", interval_seconds=REVIEW_EVERY, owner_id=self.owner
        )
        self.schedule_id = schedule["schedule_id"]
        self.stage.say(f"Beat pokes the ledger each second; the first slot is {schedule['next_run']}.")
        run = self.stage.wait_for("a review", REVIEW_WITHIN, self.finished_run)
        self.review_id = run["session_id"]
        self.stage.follow(self.review_id)
        self.stage.expect(self.review_id, "session.completed")
        self.stage.say(f"The run of {run['nominal_utc']} was a session of its own. {self.reported()}")
        self.do("schedule.delete", schedule_id=self.schedule_id)
        self.schedule_id = ""

    def reported(self) -> str:
        found = self.fleet.call("session.get", session_id=self.review_id)["context"]["review"]
        rest = [f"{one['seconds_left']:.0f} s" for one in found["at_risk"]["items"]]
        return f"It found {found['sessions']['total']} session of {self.owner}, which ends in {', '.join(rest)}."

    def finished_run(self) -> dict[str, Any] | None:
        history = self.fleet.call("schedule.history", schedule_id=self.schedule_id, status="success")
        return history["items"][-1] if history["items"] else None

    def let_it_expire(self) -> None:
        """The cleanup duty, once the time is over."""
        self.stage.wait_for("the time-out", self.timeout + 15, self.reads_as_expired)
        self.duty("maintenance.cleanup_stale", "beat fires it every five minutes", "expired")
        self.expect("session.expired")

    def reads_as_expired(self) -> bool:
        document = self.fleet.call("session.get", session_id=self.session_id)
        return bool(document["status"] == "expired")

    def verb(self, name: str, event: str, **arguments: Any) -> dict[str, Any]:
        answer = self.do(f"session.{name}", session_id=self.session_id, **arguments)
        self.expect(event)
        return answer

    def duty(self, name: str, why: str, count: str) -> None:
        answer = self.do(name)
        self.stage.say(f"A duty: {why}, here it was called by name. It {count} {answer[count]}.")

    def do(self, name: str, **arguments: Any) -> dict[str, Any]:
        self.stage.step(name, arguments)
        return self.fleet.call(name, **arguments)

    def expect(self, event: str) -> dict[str, Any]:
        return self.stage.expect(self.session_id, event)

    @contextmanager
    def tidied(self) -> Iterator[None]:
        """Leave nothing behind when it is interrupted."""
        try:
            yield
        except BaseException:
            with suppress(FleetError):
                self.sweep()
            raise

    def sweep(self) -> None:
        """Leave nothing behind, also of runs nobody looked at."""
        if self.schedule_id:
            self.fleet.call("schedule.delete", schedule_id=self.schedule_id)
        for one in self.fleet.iterate("session.list", owner_id=self.owner):
            self.fleet.call("session.delete", session_id=one["id"])
