"""Periodic duties on sessions: each takes batches until nothing is left, one transaction a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from uuid import UUID

from sqlalchemy import Connection

from reviews.store import upkeep
from sessionfleet import messages as m
from sessions import dead_letters, duties, sweeps
from sessions.change import Outcome
from tasks.base import duty
from tasks.runtime import Runtime
from tasks.unit_of_work import Work, transaction


@duty(m.TimeoutWarnings)
def timeout_warnings(runtime: Runtime, _: m.TimeoutWarnings) -> dict[str, int]:
    """Warn live sessions of their deadline (E-04)."""
    return {"warned": in_batches(runtime, warn_batch)}


def warn_batch(work: Work) -> tuple[int, int]:
    """(sessions taken, sessions warned) of one batch."""
    ids = sweeps.to_warn(work.db)
    outcomes = work.apply(ids, duties.warn, refuses_overdue=False)
    return len(ids), acted(outcomes)


@duty(m.CleanupStale)
def cleanup_stale(runtime: Runtime, _: m.CleanupStale) -> dict[str, int]:
    """Expire overdue sessions (E-05, E-08, E-09)."""
    expired = in_batches(runtime, lambda work: expire_batch(work, sweeps.to_expire(work.db)))
    if longest := runtime.policy.max_lifetime_seconds:
        expired += in_batches(runtime, lambda work: expire_batch(work, sweeps.past_longest_life(work.db, longest)))
    return {"expired": expired}


def expire_batch(work: Work, ids: Sequence[UUID]) -> tuple[int, int]:
    """(sessions taken, sessions expired) of one batch."""
    outcomes = work.apply(ids, duties.expire_overdue, refuses_overdue=False)
    return len(ids), acted(outcomes)


def acted(outcomes: Sequence[Outcome]) -> int:
    """On how many sessions a duty did more than look."""
    return sum(outcome.error is None and outcome.answer["acted"] for outcome in outcomes)


@duty(m.IndexContexts)
def index_contexts(runtime: Runtime, _: m.IndexContexts) -> dict[str, int]:
    """Bring the index of contexts up to date (Q-06)."""
    looked = indexed = 0
    last = None
    while True:
        with transaction(runtime, actor="fleet") as work:
            seen = sweeps.index_contexts(work.db, last)
        if not seen:
            return {"indexed": indexed, "changing": looked - indexed}
        looked, indexed, last = looked + len(seen), indexed + sum(one.indexed for one in seen), seen[-1].id


@duty(m.SumCounts)
def sum_counts(runtime: Runtime, _: m.SumCounts) -> dict[str, int]:
    """Sum up the changes in how many sessions have a status (Q-03)."""
    with transaction(runtime, actor="fleet") as work:
        return {"summed": sweeps.sum_counts(work.db)}


@duty(m.PurgeOld)
def purge_old(runtime: Runtime, _: m.PurgeOld) -> dict[str, int]:
    """Remove what has outlived its keep: stored answers, tombstones, dead letters of messages."""

    def removing(purge: Callable[[Connection], int]) -> Callable[[Work], tuple[int, int]]:
        return lambda work: (purge(work.db),) * 2

    return {
        "idempotency_keys": in_batches(runtime, removing(sweeps.purge_answers)),
        "tombstones": in_batches(runtime, removing(sweeps.purge_tombstones)),
        "schedule_slots": in_batches(runtime, removing(purge_slots(runtime.ledger_retention_days))),
        "dead_letters": prune_dead_letters(runtime),
    }


def purge_slots(days: int) -> Callable[[Connection], int]:
    """The purge of the tick ledger (H-13)."""
    return lambda db: upkeep.purge(db, days, sweeps.BATCH)


def prune_dead_letters(runtime: Runtime) -> int:
    """Messages that were put away too long ago, or beyond the number that is kept (P-11)."""
    with transaction(runtime, actor="fleet") as work:
        return dead_letters.prune(work.db)


def in_batches(runtime: Runtime, batch: Callable[[Work], tuple[int, int]]) -> int:
    """Run ``batch`` in transactions of its own until one takes nothing; the sum of what was done."""
    total = 0
    while True:
        with transaction(runtime, actor="fleet") as work:
            taken, done = batch(work)
        total += done
        if taken < sweeps.BATCH:
            return total
