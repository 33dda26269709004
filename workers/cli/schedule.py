"""``fleet schedule``: scheduled reviews by hand, in readable tables."""

from __future__ import annotations

import json
import re
import time
from datetime import datetime
from typing import Any

import click

from sessionfleet import Fleet
from sessionfleet.words import PRIORITIES
from workers.cli import Group, schedule_accounts, schedule_views
from workers.cli.answers import as_json, show_answer, with_rest
from workers.cli.arguments import Seconds
from workers.cli.reach import reached
from workers.cli.running import say
from workers.cli.tables import duration, instant, table

Document = dict[str, Any]

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
OVER = ("success", "failed", "skipped")


class Every(click.ParamType[Any]):
    """A period like 30s, 15m, 2h or 1d, as the arguments of schedule.create."""

    name = "period"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        match = re.fullmatch(r"(\d{1,9})([smhd])", value)
        if match is None:
            self.fail(f"{value!r} is no period like 30s, 15m, 2h or 1d", param, ctx)
        seconds = int(match[1]) * UNITS[match[2]]
        return {"interval_seconds": seconds} if seconds % 60 else {"interval_minutes": seconds // 60}


@click.group(cls=Group)
def schedule() -> None:
    """Create, watch and steer scheduled reviews.

    \b
    ./fleet schedule create --owner owner-1 --every 15m
    ./fleet schedule list
    ./fleet schedule preview SCHEDULE_ID
    ./fleet schedule history SCHEDULE_ID
    """


for _command in (*schedule_views.COMMANDS, *schedule_accounts.COMMANDS):
    schedule.add_command(_command)

limited = click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="Rows at most.")
noted = click.option("--note", help="Why; kept in the audit.")


@schedule.command()
@click.option("--owner", "owner_id", required=True, help="Whose sessions are reviewed.")
@click.option("--every", type=Every(), required=True, metavar="PERIOD", help="30s, 15m, 2h, 1d.")
@click.option("--timezone", help="Zone the next run is shown in, e.g. Europe/Berlin.")
@click.option("--priority", type=click.Choice(PRIORITIES))
@click.option("--max-retries", type=int, help="Tries after the first that failed.")
@click.option("--retry-delay-minutes", type=int, help="Wait before the first of them; doubles each time.")
@click.option("--paused", is_flag=True, help="Do not fire before it is resumed.")
@as_json
def create(every: Document, paused: bool, as_json: bool, **given: Any) -> None:
    """Create an interval schedule; its first slot lies one period ahead."""
    arguments = {name: value for name, value in given.items() if value is not None}
    with reached() as fleet:
        made = fleet.call("schedule.create", schedule_type="interval", enabled=not paused, **every, **arguments)
    show_answer(made, as_json, details)


@schedule.command("list")
@click.option("--owner", "owner_id", help="Of one owner.")
@click.option("--enabled", "enabled_only", is_flag=True, help="Without the paused ones.")
@limited
@as_json
def list_(owner_id: str | None, enabled_only: bool, limit: int, as_json: bool) -> None:
    """List schedules, newest first."""
    with reached() as fleet:
        found = fleet.call("schedule.list", owner_id=owner_id, enabled_only=enabled_only, limit=limit)
    show_answer(found, as_json, overview)


@schedule.command()
@click.argument("schedule_id")
@as_json
def show(schedule_id: str, as_json: bool) -> None:
    """Show one schedule."""
    with reached() as fleet:
        found = fleet.call("schedule.get", schedule_id=schedule_id)
    show_answer(found, as_json, details)


@schedule.command()
@click.argument("schedule_id")
@noted
@as_json
def pause(schedule_id: str, note: str | None, as_json: bool) -> None:
    """Stop firing; each slot of the pause is recorded as skipped."""
    with reached() as fleet:
        show_answer(fleet.call("schedule.pause", schedule_id=schedule_id, note=note), as_json, details)


@schedule.command()
@click.argument("schedule_id")
@noted
@as_json
def resume(schedule_id: str, note: str | None, as_json: bool) -> None:
    """Fire again from the next slot on."""
    with reached() as fleet:
        show_answer(fleet.call("schedule.resume", schedule_id=schedule_id, note=note), as_json, details)


@schedule.command()
@click.argument("schedule_id")
@as_json
def delete(schedule_id: str, as_json: bool) -> None:
    """Delete a schedule; its history stays readable."""
    with reached() as fleet:
        gone = fleet.call("schedule.delete", schedule_id=schedule_id)
    show_answer(gone, as_json, lambda _: f"{schedule_id} is deleted")


@schedule.command()
@click.argument("schedule_id")
@click.option("--wait", is_flag=True, help="Wait for its end; exit code 1 when it failed or has not come in time.")
@click.option("--timeout", type=Seconds(), default=60.0, show_default=True, help="How long to wait.")
@as_json
def trigger(schedule_id: str, wait: bool, timeout: float, as_json: bool) -> None:
    """Run a review now, whatever its schedule says."""
    with reached() as fleet:
        run = fleet.call("schedule.trigger", schedule_id=schedule_id)
        if wait:
            run = _ended(fleet, run, timeout)
    show_answer(run, as_json, report)
    if wait and run["status"] not in OVER:
        say(f"the run has not ended within {timeout:g} s: see ./fleet schedule history {schedule_id}")
    if run["status"] == "failed" or (wait and run["status"] not in OVER):
        raise SystemExit(1)


@schedule.command()
@click.argument("schedule_id")
@click.option("--status", type=click.Choice(["queued", "running", *OVER]))
@limited
@as_json
def history(schedule_id: str, status: str | None, limit: int, as_json: bool) -> None:
    """Show what became of each slot, latest first; instants are UTC."""
    with reached() as fleet:
        found = fleet.call("schedule.history", schedule_id=schedule_id, status=status, limit=limit)
    show_answer(found, as_json, slots)


def overview(found: Document) -> str:
    """A line per schedule."""
    rows = [
        [
            one["schedule_id"],
            one["owner_id"],
            every_text(one),
            "on" if one["enabled"] else "paused",
            instant(one["next_run"]),
            instant(one["last_run"]),
            one["last_status"] or "-",
            str(one["run_count"]),
        ]
        for one in found["items"]
    ]
    heads = ["SCHEDULE", "OWNER", "EVERY", "STATE", "NEXT RUN (UTC)", "LAST RUN (UTC)", "LAST", "RUNS"]
    return with_rest(table(heads, rows), found["next_cursor"]) if rows else "no schedules"


def details(one: Document) -> str:
    """A line per field that says something."""
    state = "on" if one["enabled"] else "paused" + (f": {one['pause_note']}" if one["pause_note"] else "")
    local = f" ({one['next_run_local']}, {one['timezone']})" if one["timezone"] != "UTC" else ""
    rows = [
        ["schedule", one["schedule_id"]],
        ["owner", one["owner_id"]],
        ["every", every_text(one)],
        ["state", state],
        ["next run", f"{instant(one['next_run'])} UTC{local}"],
        ["last run", f"{instant(one['last_run'])} {one['last_status'] or ''}"],
        ["runs", str(one["run_count"])],
        ["priority", one["priority"]],
        ["retries", f"{one['max_retries']}, the first after {one['retry_delay_minutes']} min"],
        ["version", str(one["version"])],
    ]
    if one["metadata"]:
        rows.append(["metadata", json.dumps(one["metadata"], ensure_ascii=False)])
    return table(*_headless(rows))


def slots(found: Document) -> str:
    """A line per slot: when it was due, what became of it, how late it started, how long it took."""
    rows = [
        [
            instant(one["nominal_utc"]),
            one["kind"],
            one["status"],
            _late(one),
            "-" if one["duration_seconds"] is None else duration(one["duration_seconds"]),
            str(one["attempt"]),
            one["reason"] or one["error_message"] or one["session_id"] or "",
        ]
        for one in found["items"]
    ]
    heads = ["DUE (UTC)", "KIND", "STATUS", "LATE", "TOOK", "TRY", "REASON, ERROR OR SESSION"]
    return with_rest(table(heads, rows), found["next_cursor"]) if rows else "no slot has come yet"


def report(run: Document) -> str:
    """An execution, with what the review found when it has ended."""
    rows = [["execution", run["execution_id"]], ["status", run["status"]]]
    rows += [[name, run[name]] for name in ("reason", "session_id", "error_message") if run[name] is not None]
    result = run["result"]
    if result is not None and "since_last" not in result:  # of a handler of another service
        rows.append(["result", json.dumps(result, ensure_ascii=False)])
    elif result is not None:
        rows += [
            ["since", "the beginning" if result["since"] is None else f"{instant(result['since'])} UTC"],
            ["sessions", f"{result['sessions']['total']}: {_counts(result['sessions']['by_status'])}"],
            ["since then", _counts(result["since_last"])],
            ["at risk", str(result["at_risk"]["count"])],
            ["stale", str(result["stale"]["count"])],
            ["accounts", str(result["accounts"])],
        ]
    return table(*_headless(rows))


def every_text(one: Document) -> str:
    """The period of an interval; the type of anything else."""
    if one["interval_seconds"] is not None:
        return duration(one["interval_seconds"])
    return one["schedule_type"] if one["interval_minutes"] is None else duration(one["interval_minutes"] * 60)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "nothing"


def _late(one: Document) -> str:
    if one["started_at"] is None:
        return "-"
    late = datetime.fromisoformat(one["started_at"]) - datetime.fromisoformat(one["nominal_utc"])
    return duration(max(late.total_seconds(), 0))


def _ended(fleet: Fleet, run: Document, timeout: float) -> Document:
    """The execution when it is over, or as it stands after ``timeout`` seconds."""
    until = time.monotonic() + timeout
    while run["status"] not in OVER and time.monotonic() < until:
        time.sleep(0.2)
        found = fleet.call("schedule.history", schedule_id=run["schedule_id"], limit=100)["items"]
        run = next((one for one in found if one["execution_id"] == run["execution_id"]), run)
    return run


def _headless(rows: list[list[str]]) -> tuple[list[str], list[list[str]]]:
    return rows[0], rows[1:]
