"""``fleet events``: the log of all sessions, and events nobody could take, by hand."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from sessionfleet import Event
from sessionfleet.words import CONSUMER_GROUPS
from workers.cli import Group
from workers.cli.answers import as_json, requeued, show_answer, with_rest
from workers.cli.arguments import these
from workers.cli.event_lines import line
from workers.cli.reach import reached
from workers.cli.tables import instant, table

Document = dict[str, Any]

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def moment(text: str) -> str:
    """An ISO 8601 instant with offset, or how long ago: ``90s``, ``15m``, ``2h``, ``7d``."""
    if text[:-1].isdecimal() and text[-1] in UNITS and len(text) < 10:
        return (datetime.now(UTC) - timedelta(seconds=int(text[:-1]) * UNITS[text[-1]])).isoformat()
    with suppress(ValueError):
        found = datetime.fromisoformat(text)
        if found.tzinfo is not None:
            return found.isoformat()
    raise click.BadParameter(f"{text!r} is neither an instant like 2026-03-29T12:00:00+00:00 nor a time ago like 2h")


@click.group(cls=Group)
def events() -> None:
    """Read the log of all sessions; look at events nobody could take, give them once more, forget them.

    \b
    ./fleet events replay --since 1h --type session.failed
    ./fleet events dead-letters --group session_handlers
    ./fleet events requeue 17 18
    """


@events.command()
@click.option("--since", type=moment, help="Events from then on: an instant, or a time ago like 2h.")
@click.option("--until", type=moment, help="Events before then.")
@click.option("--type", "types", multiple=True, metavar="NAME", help="Only these events, e.g. session.paused.")
@click.option("--session", "session_ids", multiple=True, metavar="UUID", help="Only of these sessions.")
@click.option("--limit", type=click.IntRange(1), help="Events at most; all of them without.")
@click.option("--json", "as_json", is_flag=True, help="One envelope per line, as JSON.")
def replay(limit: int | None, as_json: bool, **given: Any) -> None:
    """Print events of all sessions in the order they were committed."""
    arguments = {name: value for name, value in given.items() if value}
    with reached() as fleet:
        for number, envelope in enumerate(fleet.iterate("event.replay", **arguments)):
            if number == limit:
                break
            click.echo(as_text(envelope, as_json=as_json))


def as_text(envelope: Document, *, as_json: bool) -> str:
    """One line of output."""
    return json.dumps(envelope, ensure_ascii=False) if as_json else line(Event.of(envelope), with_session=True)


@events.command("dead-letters")
@click.option("--group", type=click.Choice(CONSUMER_GROUPS), help="Of one consumer group.")
@click.option("--session", "session_id", metavar="UUID", help="Of one session.")
@click.option("--requeued", is_flag=True, help="Also those that were requeued.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 100), help="Rows at most.")
@as_json
def dead_letters(as_json: bool, **given: Any) -> None:
    """List events nobody could take, latest first."""
    arguments = {name: value for name, value in given.items() if value is not None}
    with reached() as fleet:
        found = fleet.call("event.dead_letters", **arguments)
    show_answer(found, as_json, overview)


def overview(found: Document) -> str:
    """One line per letter."""
    if not found["items"]:
        return "there are no dead letters"
    heads = ("ID", "WHEN", "GROUP", "EVENT", "SESSION", "SEQ", "DELIVERIES", "REASON")
    rows = [
        (
            str(one["id"]),
            instant(one["dlq_timestamp"]),
            one["consumer_group"] or "(relay)",
            str(one["envelope"].get("event_name", "-")),
            str(one["envelope"].get("session_id", "-")),
            str(one["envelope"].get("seq", "-")),
            str(one["deliveries"]),
            one["failure_reason"].partition("\n")[0][:100] + (" (requeued)" if one["requeued_at"] else ""),
        )
        for one in found["items"]
    ]
    return with_rest(table(heads, rows), found["next_cursor"])


@events.command()
@these
@as_json
def requeue(ids: tuple[int, ...], as_json: bool) -> None:
    """Give events once more to the group that gave them up."""
    with reached() as fleet:
        answer = fleet.call("event.requeue", ids=sorted(set(ids)))
    show_answer(answer, as_json, lambda told: requeued(told, "not there, requeued before, or no event"))


@events.command()
@these
@as_json
def discard(ids: tuple[int, ...], as_json: bool) -> None:
    """Forget dead letters for good."""
    with reached() as fleet:
        answer = fleet.call("event.discard", ids=sorted(set(ids)))
    show_answer(answer, as_json, lambda told: f"discarded {told['discarded']}")
