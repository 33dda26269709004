"""Task messages nobody could take: kept, shown, put back, discarded (rows D-18, P-11)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from broker.quarantine import Entry, QuarantineList
from sessionfleet.messages import dead_letters as m
from sessions import dead_letters
from sessions.dead_letters import Letter
from tasks.base import command, duty, query
from tasks.runtime import Runtime
from tasks.unit_of_work import Work

BATCH = 20
"""Messages the drain takes at a time; each may be as large as the broker lets it be."""


@query(m.ListDeadLetters)
def list_(db: Connection, command: m.ListDeadLetters, _: Runtime) -> dict[str, Any]:
    """Messages that were put away."""
    return dead_letters.page(db, command)


@query(m.ShowDeadLetter)
def show(db: Connection, command: m.ShowDeadLetter, _: Runtime) -> dict[str, Any]:
    """One of them with its content."""
    return dead_letters.show(db, command.id)


@command(m.RequeueDeadLetters)
def requeue(work: Work, command: m.RequeueDeadLetters) -> dict[str, Any]:
    """Back into their queues. Sent before the commit: a crash in between sends a message twice, never not at all."""
    rows = dead_letters.take_for_requeue(work.db, command.ids)
    quarantine: QuarantineList = work.runtime.extras["quarantine"]
    for row in rows:
        quarantine.requeue(row.queue, bytes(row.raw))
    requeued = [row.id for row in rows]
    return {"requeued": requeued, "skipped": sorted(set(command.ids) - set(requeued))}


@command(m.DiscardDeadLetters)
def discard(work: Work, command: m.DiscardDeadLetters) -> dict[str, int]:
    """Gone for good."""
    return {"discarded": dead_letters.discard(work.db, command.ids)}


@duty(m.DrainQuarantine)
def drain_quarantine(runtime: Runtime, _: m.DrainQuarantine) -> dict[str, int]:
    """From Redis to PostgreSQL; any number at once, each message is one row."""
    quarantine: QuarantineList = runtime.extras["quarantine"]
    kept = 0
    while lines := quarantine.oldest(BATCH):
        entries = map(Entry.loads, lines)
        letters = [Letter(one.raw, one.reason, one.queue, one.at, one.deliveries) for one in entries]
        with runtime.engine.begin() as db:
            dead_letters.keep(db, letters)
        quarantine.drop(lines)
        kept += len(lines)
    return {"kept": kept}
