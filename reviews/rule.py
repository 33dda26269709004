"""Everything that says when a schedule fires, as one immutable value (rows H-01, H-02, H-05, H-17, H-19)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from typing import Any, Literal, Self

from reviews.cron import DayMode
from reviews.zones import Gap, Overlap

MonthEnd = Literal["clamp", "skip"]
"""Of a month without the day: clamp takes its last day, skip leaves the month out."""

WindowPolicy = Literal["skip", "wait"]
"""Of a slot outside all windows: skip it, or wait for the next opening if that is before the next slot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The recurrence of one schedule. Local times are wall time in ``timezone``.

    - ``schedule_type``: daily, weekly, biweekly, monthly, cron, interval or one_time.
    - ``interval_minutes`` (fractions of whole seconds) or ``interval_seconds``: an interval's period; it
      runs in UTC from ``anchor``, which is any of its slots.
    - ``cron_expression`` with ``day_mode``: see :mod:`reviews.cron`.
    - ``scheduled_time``: of one_time, ISO 8601; without an offset it is local.
    - ``hour`` (0..23), ``minute`` (0..59): of daily, weekly, biweekly, monthly; 00:00.
    - ``weekday``: 0 and 7 are Sunday; of weekly, by default Monday.
    - ``day`` (1..31), ``month_end``, or ``last_business_day``: of monthly, by default the 1st. A business
      day is one from Monday to Friday that ``blackouts`` does not cover as a whole.
    - ``anchor_date``: of biweekly, its first day; the others are 14, 28, .. days later.
    - ``dst_gap``, ``dst_overlap``: see :mod:`reviews.zones`; without meaning for an interval.
    - ``jitter_seconds`` (0..86400), ``windows``, ``window_policy``, ``blackouts``: they move or drop the
      start of a slot, never the slot: see :mod:`reviews.placement`.
    - ``end_at``: no slot is later.
    """

    schedule_type: str
    interval_minutes: float | None = None
    interval_seconds: int | None = None
    cron_expression: str | None = None
    day_mode: DayMode | None = None
    scheduled_time: str | None = None
    hour: int = 0
    minute: int = 0
    weekday: int | None = None
    day: int | None = None
    last_business_day: bool = False
    month_end: MonthEnd = "clamp"
    anchor_date: date | None = None
    timezone: str = "UTC"
    dst_gap: Gap = "shift"
    dst_overlap: Overlap = "first"
    jitter_seconds: int = 0
    windows: tuple[str, ...] = ()
    window_policy: WindowPolicy = "skip"
    blackouts: tuple[str, ...] = ()
    end_at: datetime | None = None
    anchor: datetime | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any], anchor: datetime | None = None) -> Self:
        """From a row or a message's fields; what is absent is at its default."""
        given = {name: values[name] for name in COLUMNS if name in values}
        for name in ("windows", "blackouts"):
            given[name] = tuple(given.get(name) or ())
        return cls(**given, anchor=anchor)

    @property
    def period(self) -> timedelta:
        """Of an interval, in whole seconds; ValueError for any other rule."""
        if self.interval_seconds is not None:
            return timedelta(seconds=self.interval_seconds)
        if self.interval_minutes is None:
            raise ValueError("not an interval")
        return timedelta(seconds=round(self.interval_minutes * 60))


DEFAULTS: dict[str, Any] = {field.name: field.default for field in fields(Rule)}

COLUMNS: tuple[str, ...] = tuple(name for name in DEFAULTS if name != "anchor")
"""The fields that a schedule stores."""
