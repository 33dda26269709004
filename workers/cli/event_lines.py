"""Events as lines for people; plain when the output is no terminal."""

from __future__ import annotations

import json
from typing import Any

import click

from sessionfleet import Event
from workers.cli.tables import plain

COLOURS = {"session": "cyan", "output": "white", "error": "red", "schedule": "magenta", "command": "blue"}
BAD = frozenset({"session.failed", "session.crashed", "session.expired", "session.timeout_warning"})
NAME_WIDTH = 24
DETAIL_WIDTH = 100


def line(event: Event, *, with_session: bool) -> str:
    """``12:03:04.567  #3  session.paused  reason=lunch``; with the session's first digits for many sessions."""
    name = plain(event.event_name)
    at = event.timestamp.astimezone().strftime("%H:%M:%S.%f")[:-3] if event.timestamp else " " * 12
    colour = "yellow" if event.event_name in BAD else COLOURS.get(event.event_name.partition(".")[0], "green")
    parts = [
        click.style(at, dim=True),
        *([click.style(event.session_id[:8], dim=True)] if with_session else []),
        f"#{event.seq:<4}",
        click.style(f"{name:<{NAME_WIDTH}}", fg=colour),
        details(event),
    ]
    return " ".join(parts).rstrip()


def mark_line(mark: Event) -> str:
    """Where the past ends, or why there is no more."""
    return click.style("-- live from here --" if mark.is_replay_end else f"-- end: {mark.reason} --", dim=True)


def details(event: Event) -> str:
    """What the payload says, on one line."""
    given = (f"{key}={_short(value)}" for key, value in event.payload.items() if value not in (None, [], {}))
    text = plain("  ".join(given))
    return text if len(text) <= DETAIL_WIDTH else text[: DETAIL_WIDTH - 1] + "…"


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
