"""What becomes of the slots that are due: pure planning (rows H-06..H-09, H-17, H-19, invariant 7).

Each due slot is decided once: it runs, or it is skipped with the first reason that holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, pairwise
from typing import Any, Literal

from reviews import recurrence
from reviews.occurrences import occurrences
from reviews.placement import Placement, place
from reviews.rule import Rule

Reason = Literal["paused", "misfire", "window", "blackout", "coalesced", "limit", "overlap", "no_capacity", "deleted"]
"""paused: the schedule was paused; misfire: later than misfire_grace, or late at all when coalesce is
none; window, blackout: no start was allowed; coalesced: another late slot ran for it; limit: max_runs,
max_instances or the buffer were reached; overlap: another run of the schedule was in the way, or came in
its place; no_capacity: too many runs of the owner waited; deleted: before the run began."""

Coalesce = Literal["latest", "none", "earliest", "all"]
"""Which of several slots that are due at once run: the latest (of which only the last can be on time),
none that is late, the earliest, or the latest :data:`MAX_CATCHUP`."""

MAX_CATCHUP = 100

BUFFER = 1000
"""Slots of one schedule that wait under buffer_all."""

MAX_WAITING = 10_000
"""Runs of one owner that wait; a slot beyond them is skipped."""

SLOTS_AT_ONCE = 1000
"""Slots of one schedule decided in one transaction, unless more of them are within the grace and must
be seen together; a longer backlog takes several."""

ON_TIME = timedelta(seconds=5)
"""A slot is never a misfire sooner: the tick that finds it takes a moment itself."""

_SEEN_TOGETHER = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a schedule and the fleet say about its slots, and where the schedule stands.

    ``room``: runs that may be added to those that wait or are under way; a slot beyond it is skipped because
    of ``full``, and of several it is the first that run, or with ``latest_wins`` the last. ``left``: slots
    that may run at all, None without a limit. ``capacity``: runs of the owner that may be added.
    """

    schedule_id: str = ""
    enabled: bool = True
    grace: timedelta
    coalesce: Coalesce = "latest"
    full: Literal["overlap", "limit"] = "overlap"
    room: int = 1
    latest_wins: bool = False
    left: int | None = None
    capacity: int = MAX_WAITING


def overlapping(overlap: str, max_instances: int, active: int) -> dict[str, Any]:
    """What an overlap policy (H-09) makes of a slot while ``active`` runs of its schedule wait or are under
    way: ``room``, ``full`` and ``latest_wins`` of a :class:`Policy`."""
    match overlap:
        case "allow_all":
            return {"room": max(max_instances - active, 0), "full": "limit"}
        case "buffer_one":
            return {"room": max(2 - active, 0), "full": "overlap"}
        case "buffer_all":
            return {"room": max(1 + BUFFER - active, 0), "full": "limit"}
        case "cancel_other" | "terminate_other":
            return {"room": 1, "full": "overlap", "latest_wins": True}
    return {"room": max(1 - active, 0), "full": "overlap"}


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot with its fate: it runs from ``start`` on, or it is skipped for a reason."""

    nominal: datetime
    start: datetime | None = None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The fates of the slots that are due, oldest first, and the slot after them; ``crowded_out`` of them
    found no room."""

    slots: list[Slot]
    next_run: datetime | None
    crowded_out: int = 0


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
    fit = _coalesced(fates, now, policy.coalesce)
    late = policy.coalesce == "latest" and any(slot.reason is None for slot in fit)
    if late and following is not None and _fits_later(rule, policy, following, now, grace):
        fit = [slot if slot.reason else Slot(slot.nominal, reason="coalesced") for slot in fit]
    if policy.latest_wins:
        fit = _only_latest(fit)
    return Plan(*_limited(fit, policy, following))


def _place(rule: Rule, policy: Policy, nominal: datetime, following: datetime | None) -> Placement:
    if not (rule.jitter_seconds or rule.windows or rule.blackouts):
        return Placement(nominal)
    return place(rule, policy.schedule_id, nominal, following)


def _fits_later(rule: Rule, policy: Policy, first: datetime, now: datetime, grace: timedelta) -> bool:
    """Whether one of the due slots from ``first`` on may run, so that it is later than all before it."""
    for nominal, following in pairwise(chain((first,), occurrences(rule, first), (None,))):
        if nominal is None or nominal > now:
            break
        if now - nominal <= grace and _place(rule, policy, nominal, following).reason is None:
            return True
    return False


def _coalesced(slots: Sequence[Slot], now: datetime, coalesce: Coalesce) -> list[Slot]:
    fit = [slot for slot in slots if slot.reason is None]
    reason: Reason = "coalesced"
    match coalesce:
        case "latest":
            chosen = fit[-1:]
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


def _only_latest(slots: Sequence[Slot]) -> list[Slot]:
    last = next((slot for slot in reversed(slots) if slot.reason is None), None)
    return [slot if slot.reason or slot is last else Slot(slot.nominal, reason="overlap") for slot in slots]


def _limited(
    slots: Sequence[Slot], policy: Policy, following: datetime | None
) -> tuple[list[Slot], datetime | None, int]:
    room, left, capacity = policy.room, policy.left, policy.capacity
    decided: list[Slot] = []
    crowded_out = 0
    for slot in slots:
        reason = slot.reason
        if reason is None and left is not None and left <= 0:
            reason = "limit"
        elif reason is None and room <= 0:
            reason, crowded_out = policy.full, crowded_out + 1
        elif reason is None and capacity <= 0:
            reason = "no_capacity"
        if reason is None:
            room, capacity, left = room - 1, capacity - 1, None if left is None else left - 1
        decided.append(slot if reason is None else Slot(slot.nominal, reason=reason))
    return decided, following, crowded_out
