"""What each schedule type asks of its own fields (row H-03)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from reviews import cron
from reviews.cron_fields import CronError
from reviews.occurrences import one_time
from reviews.rule import DEFAULTS, Rule
from sessionfleet.messages.schedule_examples import invalid_schedule

_TIME_OF_DAY = ("hour", "minute")
FIELDS: dict[str, tuple[str, ...]] = {
    "daily": _TIME_OF_DAY,
    "weekly": (*_TIME_OF_DAY, "weekday"),
    "biweekly": (*_TIME_OF_DAY, "weekday", "anchor_date"),
    "monthly": (*_TIME_OF_DAY, "day", "month_end", "last_business_day"),
    "cron": ("cron_expression", "day_mode"),
    "interval": ("interval_minutes", "interval_seconds"),
    "one_time": ("scheduled_time",),
}
"""Schedule type -> the fields that have a meaning for no other type, or for few."""


def refuse(rule: Rule, field: str, reason: str) -> NoReturn:
    """Raises :class:`~sessionfleet.errors.InvalidSchedule` about that field of the rule."""
    raise invalid_schedule(field, reason, rule.schedule_type)


def _check_biweekly(rule: Rule) -> None:
    if rule.anchor_date is None:
        refuse(rule, "anchor_date", "is required when schedule_type is biweekly")
    if rule.weekday is not None and rule.weekday % 7 != rule.anchor_date.isoweekday() % 7:
        refuse(rule, "weekday", f"is not that of anchor_date, {rule.anchor_date:%A %Y-%m-%d}; leave one of them out")


def _check_monthly(rule: Rule) -> None:
    if rule.last_business_day and rule.day is not None:
        refuse(rule, "last_business_day", "stands beside day; give one of the two")
    if rule.last_business_day and rule.month_end != DEFAULTS["month_end"]:
        refuse(rule, "month_end", "has no meaning with last_business_day")


def _check_cron(rule: Rule) -> None:
    if rule.cron_expression is None:
        refuse(rule, "cron_expression", "is required when schedule_type is cron")
    try:
        parsed = cron.parse(rule.cron_expression)
    except CronError as error:
        refuse(rule, "cron_expression", f"{rule.cron_expression!r}: {error}")
    if parsed.needs_day_mode and rule.day_mode is None:
        refuse(
            rule,
            "day_mode",
            f"is required with {rule.cron_expression!r}, which restricts both day of month and weekday:"
            " 'and' fires on days that are both, 'or' on days that are either",
        )
    if not parsed.is_possible(rule.day_mode):
        refuse(rule, "cron_expression", f"{rule.cron_expression!r} falls on no day of any year")


def _check_interval(rule: Rule) -> None:
    minutes, seconds = rule.interval_minutes, rule.interval_seconds
    if minutes is None and seconds is None:
        refuse(rule, "interval_minutes", "is required when schedule_type is interval")
    if minutes is not None and seconds is not None:
        refuse(rule, "interval_seconds", "stands beside interval_minutes; give one of the two")
    if seconds is not None and seconds < 1:
        refuse(rule, "interval_seconds", f"{seconds} is not 1 or more")
    if minutes is not None and (minutes * 60 < 1 or abs(minutes * 60 - round(minutes * 60)) > 1e-6):
        refuse(rule, "interval_minutes", f"{minutes:g} minutes are not one or more whole seconds")
    for name in ("dst_gap", "dst_overlap"):
        if getattr(rule, name) != DEFAULTS[name]:
            refuse(rule, name, "has no meaning for an interval, which runs in UTC")


def _check_one_time(rule: Rule) -> None:
    if rule.scheduled_time is None:
        refuse(rule, "scheduled_time", "is required when schedule_type is one_time")
    if rule.dst_overlap == "both":
        refuse(rule, "dst_overlap", "both would fire a one_time schedule twice")
    try:
        slot = one_time(rule)
    except (ValueError, OverflowError):
        refuse(rule, "scheduled_time", f"{rule.scheduled_time!r} is not a time such as 2099-01-01T09:00")
    if slot is None:
        policies = f"dst_gap={rule.dst_gap} and dst_overlap={rule.dst_overlap}"
        refuse(rule, "scheduled_time", f"{rule.scheduled_time!r} in {rule.timezone} is no instant with {policies}")


TYPES: dict[str, Callable[[Rule], None]] = {
    "daily": lambda _: None,
    "weekly": lambda _: None,
    "biweekly": _check_biweekly,
    "monthly": _check_monthly,
    "cron": _check_cron,
    "interval": _check_interval,
    "one_time": _check_one_time,
}
"""Schedule type -> raises InvalidSchedule when a field is missing or against another one."""
