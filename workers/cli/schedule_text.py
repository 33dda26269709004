"""What ``fleet schedule next|preview|simulate|backfill`` prints for a person."""

from __future__ import annotations

import calendar
from datetime import datetime
from typing import Any

from workers.cli.answers import with_rest
from workers.cli.tables import instant, table

Document = dict[str, Any]


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
