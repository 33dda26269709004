"""When the run of a slot starts, or why it does not: jitter, windows and blackouts (rows H-08, H-17)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from reviews import blackouts, windows, zones
from reviews.jitter import jitter
from reviews.rule import Rule


@dataclass(frozen=True, slots=True)
class Placement:
    """``start`` (UTC) at or after the nominal instant, or the ``reason`` why the slot is skipped."""

    start: datetime | None
    reason: Literal["window", "blackout"] | None = None


def place(rule: Rule, schedule_id: str, nominal: datetime, following: datetime | None) -> Placement:
    """The start of the slot at ``nominal``, always before ``following``, the slot after it.

    1. Outside all windows: skipped, or with ``window_policy`` wait moved to the next opening; skipped when
       that is not before ``following``.
    2. Jitter moves it on, by less than ``jitter_seconds``, and not past the end of the window or ``following``.
    3. In a blackout, with and without jitter, it is skipped. A slot whose nominal instant lies in one is
       skipped even if it would wait until the blackout is over.

    Equal arguments give equal answers, in every process.
    """
    tz = zones.zone(rule.timezone)
    closed, allowed = blackouts.parse(rule.blackouts), windows.parse(rule.windows)

    def is_blacked_out(instant: datetime) -> bool:
        return closed.covers(instant.astimezone(tz).replace(tzinfo=None))

    if is_blacked_out(nominal):
        return Placement(None, "blackout")
    start: datetime | None = nominal
    if not allowed.is_open(nominal.astimezone(tz).replace(tzinfo=None)):
        start = allowed.opens_after(nominal, tz) if rule.window_policy == "wait" else None
    if start is None or (following is not None and start >= following):
        return Placement(None, "window")
    ends = [end for end in (following, allowed.closes_after(start, tz)) if end is not None]
    spread = min([timedelta(seconds=rule.jitter_seconds), *(end - start for end in ends)])
    for candidate in (start + jitter(schedule_id, nominal, spread), start):
        if not is_blacked_out(candidate):
            return Placement(candidate)
    return Placement(None, "blackout")
