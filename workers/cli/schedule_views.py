"""``fleet schedule next|preview|simulate|explain|backfill``: what a schedule will do, would do and did."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import click

from workers.cli.answers import as_json, show_answer
from workers.cli.reach import reached
from workers.cli.schedule_pieces import TIMEOUT, backfilled, simulated
from workers.cli.schedule_text import lines, made_up, months, summary
from workers.cli.tables import plain

Document = dict[str, Any]


class Moment(click.ParamType[Any]):
    """A day or time; without an offset it is wall time in the schedule's zone."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time like 2026-03-29, 2026-03-29T02:30 or 2026-03-29T02:30Z", param, ctx)


class Span(Moment):
    """Two moments with two dots between them."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        first, dots, last = str(value).partition("..")
        if not dots:
            self.fail(f"{value!r} is no span like 2026-03-29T02:00..2026-03-29T05:00", param, ctx)
        return {"start": super().convert(first, param, ctx), "end": super().convert(last, param, ctx)}


class Definition(click.ParamType[Any]):
    """The arguments of schedule.create as a JSON object."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            found = json.loads(value)
        except ValueError as error:
            self.fail(f"is no JSON: {error}", param, ctx)
        if not isinstance(found, dict):
            self.fail("is no JSON object", param, ctx)
        return found


def subject(command: Callable[..., None]) -> Callable[..., None]:
    """A stored schedule, or one that need not be stored."""
    for add in (
        click.option("--timezone", help="Zone of --cron and --define, e.g. Europe/Berlin."),
        click.option(
            "--define",
            "definition",
            type=Definition(),
            metavar="JSON",
            help="Any definition, as for schedule.create.",
        ),
        click.option("--cron", "cron_expression", help="A cron expression instead of a stored schedule."),
        click.argument("schedule_id", required=False),
    ):
        command = add(command)
    return command


def ranged(command: Callable[..., None]) -> Callable[..., None]:
    """The range of a view."""
    for add in (
        click.option("--to", "end", type=Moment(), help="End of the range, not part of it."),
        click.option("--from", "start", type=Moment(), help="Begin of the range; default now."),
        click.option("--year", type=int, help="A whole year instead."),
    ):
        command = add(command)
    return command


@click.command("next")
@subject
@click.option("-n", "--limit", default=10, show_default=True, type=click.IntRange(1, 1000), help="How many.")
@click.option("--after", type=Moment(), help="Later than this; default now.")
@as_json
def next_(limit: int, after: datetime | None, as_json: bool, **named: Any) -> None:
    """Show the next slots of a schedule, in UTC and in its zone.

    \b
    ./fleet schedule next SCHEDULE_ID
    ./fleet schedule next --cron "30 2 * * *" --timezone Europe/Berlin --after 2026-03-28
    """
    arguments = _arguments(named, limit=limit, after=after)
    with reached() as fleet:
        found = fleet.call("schedule.next_run", **arguments)
    show_answer(found, as_json, lines)


@click.command()
@subject
@ranged
@click.option("--list", "listed", is_flag=True, help="A line per slot instead of the calendar.")
@click.option("-n", "--limit", default=1000, show_default=True, type=click.IntRange(0, 10000), help="Lines at most.")
@as_json
def preview(listed: bool, limit: int, as_json: bool, **given: Any) -> None:
    """Show a calendar of the slots to come: the fires of each day, and days whose slots are all skipped.

    Without a range it shows the next 62 days.

    \b
    ./fleet schedule preview SCHEDULE_ID
    ./fleet schedule preview --cron "0 9 * * MON-FRI" --year 2027
    """
    arguments = _arguments(given, limit=limit if listed or as_json else 0)
    with reached() as fleet:
        found = fleet.call("schedule.preview", timeout=TIMEOUT, **_two_months(arguments))
    show_answer(found, as_json, lines if listed else months)


@click.command()
@subject
@ranged
@click.option(
    "--down",
    "downtime",
    type=Span(),
    multiple=True,
    metavar="FROM..TO",
    help="Nothing is dispatched then; repeatable.",
)
@click.option("--run-seconds", type=float, default=0, help="How long each run takes.")
@click.option("--show", type=click.Choice(["all", "runs", "skipped"]), default="skipped", show_default=True)
@click.option("-n", "--limit", default=20, show_default=True, type=click.IntRange(0, 10000), help="Slots at most.")
@as_json
def simulate(downtime: tuple[Document, ...], as_json: bool, run_seconds: float, **given: Any) -> None:
    """Show a year as the ledger would see it, with the downtimes you name.

    \b
    ./fleet schedule simulate SCHEDULE_ID --year 2027 --down 2027-03-01T10:00..2027-03-01T12:30
    """
    arguments = _arguments(given, downtime=list(downtime), run_seconds=run_seconds or None)
    with reached() as fleet:
        found = simulated(fleet, arguments)
    show_answer(found, as_json, summary)


@click.command()
@click.argument("schedule_id")
@click.option("--at", type=Moment(), help="The slot; default the latest.")
@as_json
def explain(schedule_id: str, at: datetime | None, as_json: bool) -> None:
    """Say why a slot ran, did not run, or is none.

    \b
    ./fleet schedule explain SCHEDULE_ID --at 2026-03-29T02:30
    """
    with reached() as fleet:
        found = fleet.call("schedule.explain", **_given(schedule_id=schedule_id, at=at))
    show_answer(found, as_json, lambda told: plain(told["sentence"]))


@click.command()
@click.argument("schedule_id")
@click.option("--from", "start", type=Moment(), required=True, help="Begin of the range.")
@click.option("--to", "end", type=Moment(), required=True, help="End of the range, not part of it, not after now.")
@click.option("--include-skipped", is_flag=True, help="Also slots that the ledger has as skipped.")
@click.option("--run", is_flag=True, help="Really queue the runs; without it nothing is written.")
@as_json
def backfill(run: bool, as_json: bool, **given: Any) -> None:
    """Run slots of a past range that have no run of their own; without --run only say which.

    \b
    ./fleet schedule backfill SCHEDULE_ID --from 2026-03-01 --to 2026-03-08
    ./fleet schedule backfill SCHEDULE_ID --from 2026-03-01 --to 2026-03-08 --run
    """
    with reached() as fleet:
        found = backfilled(fleet, given, run=run)
    show_answer(found, as_json, made_up)


COMMANDS = (next_, preview, simulate, explain, backfill)
"""For the group ``fleet schedule``."""


def _given(**values: Any) -> Document:
    return {name: value for name, value in values.items() if value is not None}


def _arguments(named: Document, **others: Any) -> Document:
    """The message's arguments; exactly one of SCHEDULE_ID, --cron and --define must have been given."""
    cron, define, timezone = (named.pop(name) for name in ("cron_expression", "definition", "timezone"))
    if sum(value is not None for value in (named["schedule_id"], cron, define)) != 1:
        raise click.UsageError("give one of SCHEDULE_ID, --cron and --define")
    if timezone is not None and named["schedule_id"] is not None:
        raise click.UsageError("--timezone goes with --cron or --define; a stored schedule has its own")
    if cron is not None:
        define = {"schedule_type": "cron", "cron_expression": cron}
    if define is not None:
        define = {**define, **_given(timezone=timezone)}
    return _given(**named, **others, definition=define)


def _two_months(arguments: Document) -> Document:
    """Without a range, this month's rest and the next two: what a calendar on the wall shows."""
    if {"year", "start", "end"} & arguments.keys():
        return arguments
    now = datetime.now().astimezone()
    return {**arguments, "start": now, "end": now + timedelta(days=62)}
