"""``fleet schedule next|preview|simulate|explain|backfill``: what a schedule will do, would do and did."""

from __future__ import annotations

import calendar
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import click

from sessionfleet import Fleet
from sessionfleet.messages.schedule_views import BACKFILL_SLOTS
from workers.cli.answers import as_json, show_answer, with_rest
from workers.cli.reach import reached
from workers.cli.tables import instant, table

Document = dict[str, Any]

TIMEOUT = 120.0
"""Seconds for an answer: a year of minutes with windows takes a while on a busy machine."""

STEP = 200
"""Slots of one call of a long backfill, about; a day is split only where it must be."""


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
        found = _simulated(fleet, arguments)
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
    show_answer(found, as_json, lambda told: str(told["sentence"]))


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
        found = _backfilled(fleet, given, run=run)
    show_answer(found, as_json, made_up)


COMMANDS = (next_, preview, simulate, explain, backfill)
"""For the group ``fleet schedule``."""


def lines(found: Document) -> str:
    """A line per slot."""
    rows = [
        [
            instant(one["nominal_utc"]),
            _local(one["local"]),
            _start(one),
            one["note"] or "",
        ]
        for one in found["items"]
    ]
    if not rows:
        return "no slots"
    text = table(["SLOT (UTC)", f"LOCAL ({found['timezone']})", "STARTS", "NOTE"], rows)
    if not found["enabled"]:
        text += "\n(the schedule is paused: none of them will run)"
    return with_rest(text, found.get("next_start"))


def months(found: Document) -> str:
    """A calendar: per day the number of fires; a dash where all slots of the day are skipped."""
    days = found["days"]
    names = sorted({day[:7] for day in days})
    blocks = [_month(int(name[:4]), int(name[5:]), days) for name in names]
    total = f"{found['runs']} fires in {found['timezone']}, {_first(found['start'])} to {_first(found['end'])}"
    skipped = _counts(found["skipped"])
    ending = [total + (f"; would be skipped: {skipped} (a day of nothing else is marked -)" if skipped else "")]
    if not found["enabled"]:
        ending.append("The schedule is paused: none of them will run.")
    return "\n\n".join([*blocks, "\n".join(ending)])


def summary(found: Document) -> str:
    """A line per month, then the slots that were asked for."""
    rows = [[name, str(one["runs"]), str(one["skipped"])] for name, one in found["months"].items()]
    rows.append(
        ["all", str(found["runs"]), f"{sum(found['skipped'].values())}  {_counts(found['skipped'])}".rstrip()]
    )
    text = table(["MONTH", "RUN", "SKIPPED"], rows)
    if found["items"]:
        shown = [[instant(one["nominal_utc"]), _local(one["local"]), _start(one)] for one in found["items"]]
        text += "\n\n" + table(["SLOT (UTC)", f"LOCAL ({found['timezone']})", "BECOMES"], shown)
    return with_rest(text, found["truncated"])


def made_up(found: Document) -> str:
    """What a backfill did or would do, a line per slot."""
    rows = [
        [instant(one["nominal_utc"]), _local(one["local"]), one["reason"] or one["execution_id"] or "would run"]
        for one in found["items"]
    ]
    left = _counts(found["left_out"])
    what = f"{found['added']} of {found['found']} slots " + ("would be queued" if found["dry_run"] else "queued")
    text = what + (f"; left out: {left}" if left else "")
    if found["dry_run"] and found["added"]:
        text += "\nNothing is written; add --run to queue them."
    return (table(["SLOT (UTC)", "LOCAL", "RUN, OR WHY NOT"], rows) + "\n" if rows else "") + text


def _month(year: int, month: int, days: Document) -> str:
    counts = {int(day[8:]): one for day, one in days.items() if day.startswith(f"{year:04}-{month:02}-")}
    width = 3 + max(len(_mark(one)) for one in counts.values())
    heads = "".join(name.rjust(2).ljust(width) for name in ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su"))
    weeks = [
        "".join((f"{day:2}{_mark(counts.get(day))}" if day else "").ljust(width) for day in week).rstrip()
        for week in calendar.Calendar().monthdayscalendar(year, month)
    ]
    title = f"{calendar.month_name[month]} {year}".center(7 * width - 1).rstrip()
    return "\n".join([title, heads.rstrip(), *weeks])


def _mark(day: Document | None) -> str:
    if day is None:
        return ""
    return f"x{day['runs']}" if day["runs"] else "-"


def _start(one: Document) -> str:
    if one["reason"] is not None:
        return f"skipped: {one['reason']}"
    later = datetime.fromisoformat(one["start_utc"]) - datetime.fromisoformat(one["nominal_utc"])
    return f"{later.total_seconds():.3g} s later" if later else "on time"


def _local(text: str) -> str:
    return datetime.fromisoformat(text).strftime("%a %Y-%m-%d %H:%M:%S")


def _first(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M}Z"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {word}" for word, count in counts.items())


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


def _simulated(fleet: Fleet, arguments: Document) -> Document:
    """A year in twelve calls behind a progress bar, when no run can reach from one month into the next."""
    year = arguments.get("year")
    if year is None or arguments["downtime"] or "run_seconds" in arguments or _is_counted(fleet, arguments):
        answer: Document = fleet.call("schedule.simulate", timeout=TIMEOUT, **arguments)
        return answer
    del arguments["year"]
    if arguments.get("definition", {}).get("schedule_type") == "interval":
        arguments["definition"].setdefault("anchor", datetime.now(UTC).isoformat())
    edges = [datetime(year + n // 12, n % 12 + 1, 1) for n in range(13)]  # noqa: DTZ001 - wall time
    parts: list[Document] = []
    with _progress("simulating", 12) as step:
        for start, end in pairwise(edges):
            parts.append(fleet.call("schedule.simulate", timeout=TIMEOUT, **arguments, start=start, end=end))
            step()
    items = [one for part in parts for one in part["items"]]
    limit = arguments["limit"]
    return {
        **parts[0],
        "end": parts[-1]["end"],
        "total": sum(part["total"] for part in parts),
        "runs": sum(part["runs"] for part in parts),
        "skipped": dict(sum((Counter(part["skipped"]) for part in parts), Counter[str]())),
        "months": {name: one for part in parts for name, one in part["months"].items()},
        "items": items[:limit],
        "truncated": len(items) > limit or any(part["truncated"] for part in parts),
    }


def _is_counted(fleet: Fleet, arguments: Document) -> bool:
    """Whether the runs of one month are counted in the next."""
    found = arguments.get("definition") or fleet.call("schedule.get", schedule_id=arguments["schedule_id"])
    return bool(found.get("max_runs"))


def _backfilled(fleet: Fleet, given: Document, *, run: bool) -> Document:
    """In pieces behind a progress bar; each is a call, and a repeat of it doubles nothing."""
    pieces = _pieces(fleet, given["schedule_id"], given.pop("start"), given.pop("end"))
    parts: list[Document] = []
    with _progress("queueing" if run else "looking", len(pieces)) as step:
        for first, last in pieces:
            parts.append(fleet.call("schedule.backfill", dry_run=not run, start=first, end=last, **given))
            step()
    return {
        **parts[0],
        "end": parts[-1]["end"],
        "changed": any(part["changed"] for part in parts),
        "found": sum(part["found"] for part in parts),
        "added": sum(part["added"] for part in parts),
        "left_out": dict(sum((Counter(part["left_out"]) for part in parts), Counter[str]())),
        "items": [one for part in parts for one in part["items"]],
    }


def _pieces(fleet: Fleet, schedule_id: str, begin: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """The range cut at midnights of the schedule's zone, and within days that have too many slots for one call."""
    found = fleet.call("schedule.preview", timeout=TIMEOUT, schedule_id=schedule_id, start=begin, end=end, limit=0)
    edges, count = [begin], 0
    days = {datetime.fromisoformat(day): one["runs"] + one["skipped"] for day, one in sorted(found["days"].items())}
    for midnight, slots in days.items():
        if count and count + slots > STEP:
            edges.append(midnight)
            count = 0
        if slots > BACKFILL_SLOTS:
            over = end if midnight == max(days) else midnight + timedelta(days=1)
            edges += _every(STEP, fleet, schedule_id, edges[-1], over)
        count += slots
    return list(zip(edges, [*edges[1:], end], strict=True))


def _every(step: int, fleet: Fleet, schedule_id: str, begin: datetime, end: datetime) -> list[datetime]:
    """Every ``step``-th slot of a range, but for the first."""
    slots: list[str] = []
    start: datetime | str | None = begin
    while start is not None:
        page = fleet.call(
            "schedule.preview", timeout=TIMEOUT, schedule_id=schedule_id, start=start, end=end, limit=10000
        )
        slots += [one["nominal_utc"] for one in page["items"]]
        start = page["next_start"]
    return [datetime.fromisoformat(slot) for slot in slots[step::step]]


@contextmanager
def _progress(label: str, length: int) -> Iterator[Callable[[], None]]:
    """A bar on stderr; nothing when that is no terminal."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield lambda: bar.update(1)
