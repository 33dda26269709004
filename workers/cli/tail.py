"""``fleet tail``: events as they happen."""

from __future__ import annotations

import json
from contextlib import suppress

import click

from sessionfleet import Event
from workers.cli.arguments import Seconds
from workers.cli.event_lines import line, mark_line
from workers.cli.reach import reached

TYPED = {"session_id": "SESSION_ID", "after": "--after", "after_seq": "--after", "types": "--type"}
"""Argument of the subscription -> what a person types for it."""


@click.command()
@click.argument("session_id", required=False)
@click.option("--after", metavar="SEQ", help="Begin after this seq; without SESSION_ID after this Stream id.")
@click.option("--type", "types", multiple=True, metavar="NAME", help="Only these events, e.g. session.paused.")
@click.option("--timeout", type=Seconds(), help="End after so many quiet seconds.")
@click.option("--json", "as_json", is_flag=True, help="One envelope per line, as JSON.")
def tail(
    session_id: str | None, after: str | None, types: tuple[str, ...], timeout: float | None, as_json: bool
) -> None:
    """Print the events of SESSION_ID (uuid or external id) until it ends, or those of all sessions until Ctrl-C.

    Begins with what happens from now on, or after --after: 0 is a session's beginning. A line tells where
    events of the past end, and the last one why there are no more; --json leaves both out.
    """
    if session_id is not None and after is not None and not after.isdecimal():
        raise click.BadParameter("must be a seq, 0 or more", param_hint="--after")
    with suppress(KeyboardInterrupt), reached(TYPED) as fleet:
        mine = int(after) if session_id is not None and after is not None else None
        everything = after if session_id is None else None
        with fleet.subscribe(
            session_id, mine, after=everything, types=types or None, timeout=timeout, marks=not as_json
        ) as events:
            for event in events:
                if not event.is_replay_end or after is not None:
                    click.echo(as_text(event, as_json=as_json, with_session=session_id is None))


def as_text(event: Event, *, as_json: bool, with_session: bool) -> str:
    """One line of output."""
    if as_json:
        return json.dumps({**event.raw, "stream_id": event.stream_id}, ensure_ascii=False)
    return mark_line(event) if event.is_mark else line(event, with_session=with_session)
