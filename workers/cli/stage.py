"""Where ``fleet demo`` plays: steps and events on one screen, in the order in which they really came."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import click

from sessionfleet import Event, Fleet
from sessionfleet.errors import CallTimeout
from workers.cli.event_lines import line

T = TypeVar("T")

EVENT_WITHIN = 10.0
"""Seconds in which an event must have come after its operation was answered."""

LOOK_EVERY = 0.5


class Stage:
    """Prints steps, and the events of followed sessions from a live subscription in a thread."""

    def __init__(self, fleet: Fleet) -> None:
        self._events = fleet.subscribe(marks=False)
        self._seen: dict[str, list[Event]] = defaultdict(list)
        self._followed: set[str] = set()
        self._news = threading.Condition()
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._listen, name="fleet-demo-tail", daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        for event in self._events:
            with self._news:
                self._seen[event.session_id].append(event)
                if event.session_id in self._followed:
                    self._print(event)
                self._news.notify_all()

    def follow(self, session_id: str) -> None:
        """Print this session's events, those that have come already first."""
        with self._news:
            self._followed.add(session_id)
            for event in self._seen[session_id]:
                self._print(event)

    def expect(self, session_id: str, name: str) -> dict[str, Any]:
        """The payload of the session's first event of that name; raises CallTimeout when none comes."""
        with self._news:
            if self._news.wait_for(lambda: self._find(session_id, name), EVENT_WITHIN):
                event = self._find(session_id, name)
                return dict(event.payload) if event else {}
        raise CallTimeout(
            message=f"no {name} of session {session_id} came within {EVENT_WITHIN:g} s", event_name=name
        )

    def _find(self, session_id: str, name: str) -> Event | None:
        return next((event for event in self._seen[session_id] if event.event_name == name), None)

    def wait_for(self, what: str, within: float, look: Callable[[], T | None]) -> T:
        """What ``look`` finds, asked twice a second, with the seconds counted for the reader."""
        until = time.monotonic() + within
        if not sys.stdout.isatty():
            self.say(f"waiting for {what}, at most {within:.0f} s")
        while True:
            found = look()
            if found:
                self._clear()
                return found
            left = until - time.monotonic()
            if left <= 0:
                raise CallTimeout(message=f"{what} did not come within {within:g} s")
            self._count(f"  waiting for {what}, at most {left:.0f} s more")
            with self._news:
                self._news.wait(LOOK_EVERY)

    def step(self, name: str, arguments: dict[str, Any]) -> None:
        """An operation, as the reader could type it."""
        values = " ".join(f"{key}={_typed(value)}" for key, value in arguments.items())
        self._say(click.style(f"\n$ ./fleet call {name} {values}".rstrip(), bold=True))

    def say(self, text: str) -> None:
        """A remark."""
        self._say(f"  {text}")

    def summary(self, expected: dict[str, tuple[str, tuple[str, ...]]]) -> bool:
        """Which of the expected events were seen; whether all were, each session's without gap in seq."""
        complete = True
        self._say("")
        for title, (session_id, names) in expected.items():
            with self._news:
                events = list(self._seen[session_id])
            seen = {event.event_name for event in events}
            whole = [event.seq for event in events] == list(range(1, len(events) + 1))
            complete = complete and whole and seen.issuperset(names)
            for name in names:
                mark = click.style("seen   ", fg="green") if name in seen else click.style("MISSING", fg="red")
                self._say(f"  {mark} {title:<8} {name}")
            order = "in order, without gap" if whole else click.style("NOT in order or with a gap", fg="red")
            self._say(f"          {title:<8} {len(events)} events, {order}")
        took = time.monotonic() - self._started
        self._say(f"\n{'Every expected event was seen' if complete else 'Events are missing'}; it took {took:.0f} s.")
        return complete

    def _print(self, event: Event) -> None:
        self._say(f"  {click.style('|', fg='cyan')} {line(event, with_session=True)}")

    def _say(self, text: str) -> None:
        with self._news:
            self._clear()
            click.echo(text)

    def _count(self, text: str) -> None:
        if sys.stdout.isatty():
            with self._news:
                click.echo(f"\r\x1b[K{text}", nl=False)

    def _clear(self) -> None:
        if sys.stdout.isatty():
            click.echo("\r\x1b[K", nl=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._events.close()
        self._thread.join(5)


def _typed(value: Any) -> str:
    if isinstance(value, str):
        if "\n" in value:
            return "$'" + value.replace("\n", "\\n") + "'"
        return f"'{value}'" if " " in value else value
    return f"'{json.dumps(value)}'" if isinstance(value, dict | list) else json.dumps(value)
