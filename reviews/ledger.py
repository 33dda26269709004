"""What becomes of the slots that are due: pure planning (rows H-06..H-09, H-17, H-19, invariant 7).

Each due slot is decided once: it runs, or it is skipped with the first reason that holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal

from reviews import recurrence
from reviews.placement import Placement, place
from reviews.rule import Rule

Reason = Literal["paused", "misfire", "window", "blackout", "coalesced", "limit", "overlap", "deleted"]
"""paused: the schedule was paused; misfire: later than misfire_grace, or late at all when coalesce is
none; window, blackout: no start was allowed; coalesced: another late slot ran for it; limit: max_runs or
max_instances were reached; overlap: the run before was not over; deleted: before the run began."""

Coalesce = Literal["latest", "none", "earliest", "all"]
"""Which of several slots that are due at once run: the latest (of which only the last can be on time),
none that is late, the earliest, or the latest :data:`MAX_CATCHUP`."""

MAX_CATCHUP = 100

SLOTS_AT_ONCE = 1000
"""Slots of one schedule decided in one transaction, unless more of them are within the grace and must
be seen together; a longer backlog takes several."""

ON_TIME = timedelta(seconds=5)
"""A slot is never a misfire sooner: the tick that finds it takes a moment itself."""

_SEEN_TOGETHER = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a schedule and the fleet say about its slots, and where the schedule stands.

    ``room``: runs that may be started beside those that wait or are under way; a slot beyond it is
    skipped because of ``full``. ``left``: slots that may run at all, None without a limit.
    """

    schedule_id: str = ""
    enabled: bool = True
    grace: timedelta
    coalesce: Coalesce = "latest"
    full: Literal["overlap", "limit"] = "overlap"
    room: int = 1
    left: int | None = None


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot with its fate: it runs from ``start`` on, or it is skipped for a reason."""

    nominal: datetime
    start: datetime | None = None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The fates of the slots that are due, oldest first, and the slot after them."""

    slots: list[Slot]
    next_run: datetime | None


def plan(rule: Rule, next_run: datetime, now: datetime, policy: Policy, limit: int = SLOTS_AT_ONCE) -> Plan:
    """Decide the slots from ``next_run`` up to ``now``, at most ``limit`` of them.

    With more than ``limit`` due, ``next_run`` of the plan is still due, and the latest are not among
    these. Where the choice needs all slots within the grace, these are left to one plan of their own.
    """
    grace = max(policy.grace, ON_TIME)
    together = policy.coalesce in ("earliest", "all")
    due, following = recurrence.due(rule, next_run, now, _SEEN_TOGETHER if together else limit)
    backlog = following is not None and following <= now
    missed = [nominal for nominal in due if now - nominal > grace]
    if together and backlog and missed and len(missed) < len(due):
        due, following = missed, due[len(missed)]
    placed = [_place(rule, policy, *pair) for pair in pairwise([*due, following])]  # type: ignore[arg-type]
    fates: list[Slot] = []
    for nominal, placement in zip(due, placed, strict=True):
        reason: Reason | None = placement.reason
        if not policy.enabled:
            reason = "paused"
        elif now - nominal > grace:
            reason = "misfire"
        fates.append(Slot(nominal, placement.start if reason is None else None, reason))
    return Plan(_limited(_coalesced(fates, now, policy.coalesce, backlog), policy), following)


def _place(rule: Rule, policy: Policy, nominal: datetime, following: datetime | None) -> Placement:
    if not (rule.jitter_seconds or rule.windows or rule.blackouts):
        return Placement(nominal)
    return place(rule, policy.schedule_id, nominal, following)


def _coalesced(slots: Sequence[Slot], now: datetime, coalesce: Coalesce, backlog: bool) -> list[Slot]:
    fit = [slot for slot in slots if slot.reason is None]
    reason: Reason = "coalesced"
    match coalesce:
        case "latest":
            chosen = [] if backlog else fit[-1:]
        case "earliest":
            chosen = fit[:1]
        case "all":
            chosen = fit[-MAX_CATCHUP:]
        case "none":
            chosen, reason = [slot for slot in fit if now - slot.nominal <= ON_TIME], "misfire"
    kept = {slot.nominal for slot in chosen}
    return [
        slot if slot.reason is not None or slot.nominal in kept else Slot(slot.nominal, reason=reason)
        for slot in slots
    ]


def _limited(slots: Sequence[Slot], policy: Policy) -> list[Slot]:
    room, left = policy.room, policy.left
    decided: list[Slot] = []
    for slot in slots:
        reason = slot.reason
        if reason is None and left is not None and left <= 0:
            reason = "limit"
        elif reason is None and room <= 0:
            reason = policy.full
        if slot.reason is None and reason is None:
            room, left = room - 1, None if left is None else left - 1
        decided.append(slot if reason is None else Slot(slot.nominal, reason=reason))
    return decided
