"""Whether a rule can be kept: INVALID_SCHEDULE names the first field that does not fit (row H-03)."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice, pairwise
from typing import get_args

from reviews import blackouts, cron, windows, zones
from reviews.occurrences import HORIZON, next_after, occurrences, one_time
from reviews.placement import place
from reviews.rule import DEFAULTS, MonthEnd, Rule, WindowPolicy
from reviews.rule_types import FIELDS, TYPES, refuse

MAX_JITTER_SECONDS = 86400

_ANY_TYPE = (
    *("schedule_type", "timezone", "dst_gap", "dst_overlap"),
    *("jitter_seconds", "windows", "window_policy", "blackouts", "end_at", "anchor"),
)
_CHOICES: dict[str, tuple[str, ...]] = {
    "day_mode": get_args(cron.DayMode),
    "month_end": get_args(MonthEnd),
    "dst_gap": get_args(zones.Gap),
    "dst_overlap": get_args(zones.Overlap),
    "window_policy": get_args(WindowPolicy),
}
_RANGES: dict[str, tuple[int, int]] = {
    "hour": (0, 23),
    "minute": (0, 59),
    "weekday": (0, 7),
    "day": (1, 31),
    "jitter_seconds": (0, MAX_JITTER_SECONDS),
}
_SAMPLE = 60
_A_WEEK = timedelta(days=7)


def check(rule: Rule, now: datetime | None = None) -> None:
    """Raises :class:`~sessionfleet.errors.InvalidSchedule` about the first field that does not fit.

    That is an unknown type, zone or choice, a number out of range, a field that is missing, has no meaning
    for the type or contradicts another, a cron expression that cannot be read or falls on no day. With
    ``now`` (aware) also a time in the past, a rule without a slot in 100 years or by its end (an interval only
    when it has an anchor), and windows that all of the next 60 slots (of a week or more) miss.
    """
    if rule.schedule_type not in TYPES:
        refuse(rule, "schedule_type", f"{rule.schedule_type!r} is not one of {', '.join(TYPES)}")
    _check_values(rule)
    used = {*_ANY_TYPE, *FIELDS[rule.schedule_type]}
    for name, default in DEFAULTS.items():
        if name not in used and getattr(rule, name) != default:
            refuse(rule, name, f"has no meaning when schedule_type is {rule.schedule_type}")
    TYPES[rule.schedule_type](rule)
    _check_start(rule)
    if now is not None:
        _check_future(rule, now)


def _check_values(rule: Rule) -> None:
    try:
        zones.zone(rule.timezone)
    except zones.UnknownZone:
        refuse(rule, "timezone", f"{rule.timezone!r} is not an IANA time zone such as Europe/Berlin")
    for name, choices in _CHOICES.items():
        value = getattr(rule, name)
        if value not in choices and value != DEFAULTS[name]:
            refuse(rule, name, f"{value!r} is not one of {', '.join(choices)}")
    for name, (low, high) in _RANGES.items():
        value = getattr(rule, name)
        if value is not None and not low <= value <= high:
            refuse(rule, name, f"{value} is not between {low} and {high}")
    if rule.end_at is not None and rule.end_at.tzinfo is None:
        refuse(rule, "end_at", "has no offset from UTC")


def _check_start(rule: Rule) -> None:
    try:
        blackouts.parse(rule.blackouts)
    except blackouts.BlackoutError as error:
        refuse(rule, "blackouts", str(error))
    try:
        windows.parse(rule.windows)
    except windows.WindowError as error:
        refuse(rule, "windows", str(error))
    if not rule.windows and rule.window_policy != DEFAULTS["window_policy"]:
        refuse(rule, "window_policy", "has no meaning without windows")


def _check_future(rule: Rule, now: datetime) -> None:
    if rule.end_at is not None and rule.end_at <= now:
        refuse(rule, "end_at", f"{rule.end_at.isoformat()} lies in the past")
    interval = rule.schedule_type == "interval"
    if not (interval and rule.anchor is None) and next_after(rule, now) is None:
        _refuse_empty(rule, now)
    if interval:
        return
    slots = list(islice(occurrences(rule, now), _SAMPLE + 1))
    if not rule.windows or (rule.schedule_type != "one_time" and slots[-1] - slots[0] < _A_WEEK):
        return
    pairs = [*pairwise(slots), (slots[-1], None)]
    if all(place(rule, "", slot, following).reason == "window" for slot, following in pairs):
        refuse(rule, "windows", f"none of the next {len(slots)} slots starts in one of them")


def _refuse_empty(rule: Rule, now: datetime) -> None:
    slot = one_time(rule) if rule.schedule_type == "one_time" else None
    if slot is not None and (slot <= now or slot > now + HORIZON):
        where = "in the past" if slot <= now else "more than 100 years ahead"
        refuse(rule, "scheduled_time", f"{rule.scheduled_time} in {rule.timezone} lies {where}")
    if rule.end_at is not None:
        refuse(rule, "end_at", f"{rule.end_at.isoformat()} comes before the first slot")
    field = next(name for name in ("cron_expression", "anchor_date", "last_business_day") if getattr(rule, name))
    refuse(rule, field, "gives no slot in the next 100 years")
