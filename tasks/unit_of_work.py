"""One operation, one transaction (invariant 2), and what follows its commit.

Nothing leaves the process before the commit. After it the documents go to the cache by
compare-and-set and the relay gets a hint; both may fail without anybody waiting or losing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from history import audit
from history.month import create_months, missing_partition
from sessionfleet.errors import FleetError
from sessionfleet.messages.base import Write
from sessions import unit
from sessions.change import Batch, Change, Context, Operation, Outcome
from sessions.document import Document
from sessions.policy import Policy
from sessions.queries import clock
from sessions.store import loader, writer
from sessions.store.transaction import joined
from tasks.runtime import Runtime

T = TypeVar("T")
Step = tuple[Callable[[Any, Any, Context], Change], Write]
"""A session verb with its message."""

TRIES = 5
"""Runs of a transaction that lost a race or a deadlock before its error is let out."""

_RACES = frozenset({"40001", "40P01", "23505"})
_SYSTEM = Write(actor="fleet")


@dataclass(slots=True)
class Work:
    """An open transaction as commands and duties see it."""

    db: Connection
    now: datetime
    policy: Policy
    task_id: str
    task_name: str
    actor: str | None
    runtime: Runtime
    written: list[Outcome] = field(default_factory=list)
    later: list[Callable[[], None]] = field(default_factory=list)

    def apply(
        self,
        keys: Sequence[str | UUID | None],
        verb: Callable[[Any, Any, Context], Change],
        message: Write = _SYSTEM,
        *,
        creates: bool = False,
        refuses_overdue: bool = True,
    ) -> list[Outcome]:
        """Run one session verb on each key in this transaction, locked in id order; outcomes in the
        order of ``keys``. Answers are not stored: the surrounding command or the verb's own check
        makes a repeat harmless."""
        operations = [
            Operation(
                name=self.task_name,
                message=message,
                verb=verb,
                task_id=self.task_id,
                session_key=None if key is None else str(key),
                key="",
                creates=creates,
                refuses_overdue=refuses_overdue,
                idempotent=False,
            )
            for key in keys
        ]
        [outcomes] = unit.run(self.db, [Batch(operations)], self.policy)
        self.written += outcomes
        return outcomes

    def apply_in_order(self, key: UUID | None, steps: Sequence[Step], *, creates: bool) -> None:
        """Run several verbs on one session in this transaction, in as few statements as one; the first error
        is raised. ``creates``: the first of them may create it. Answers are not stored."""
        operations = [
            Operation(
                name=self.task_name,
                message=message,
                verb=verb,
                task_id=self.task_id,
                session_key=None if key is None else str(key),
                key="",
                creates=creates and place == 0,
                idempotent=False,
            )
            for place, (verb, message) in enumerate(steps)
        ]
        [outcomes] = unit.run(self.db, [Batch(operations)], self.policy)
        if (error := first_error(outcomes)) is not None:
            raise error
        self.written += outcomes

    def after_commit(self, action: Callable[[], None]) -> None:
        """Call ``action`` once the transaction has committed."""
        self.later.append(action)


def run_batch(runtime: Runtime, batch: Batch, lock_seconds: int | None = None) -> list[Outcome]:
    """Run the operations of one message in one transaction and tell cache and relay; outcomes in their order. See
    :func:`commit_batches`."""
    [outcomes] = commit_batches(runtime, [batch], lock_seconds)
    publish(runtime, outcomes)
    return outcomes


def commit_batches(
    runtime: Runtime, batches: Sequence[Batch], lock_seconds: int | None = None, *, skip_held: bool = False
) -> list[list[Outcome]]:
    """Run session operations in one transaction; outcomes by batch, in its order. Cache and relay are told by the
    caller. ``lock_seconds``: how long to wait for a held row; ``skip_held``: not at all (:func:`sessions.unit.run`).

    A lost race (unique id, idempotency key, deadlock), a missing month or, once, a lost connection runs again, at
    most TRIES times in all. Raises what the database raises beyond that.
    """

    def once() -> list[list[Outcome]]:
        with joined(runtime.engine) as db:
            return unit.run(db, batches, runtime.policy, lock_seconds, skip_held=skip_held, commit=True)

    return again(runtime, once)


@contextmanager
def transaction(runtime: Runtime, actor: str | None = None) -> Iterator[Work]:
    """One transaction for a duty: commits at the end of the block, then cache and relay hear of it."""
    with runtime.engine.begin() as db:
        work = Work(db, clock(db), runtime.policy, runtime.task_id, runtime.task_name, actor, runtime)
        yield work
    _committed(runtime, work)


def run_command(runtime: Runtime, command: Write, function: Callable[[Work, Any], Any]) -> Any:
    """Run a command that is not a verb on one session: one transaction, idempotent by key (B-13).

    Uses of one key wait for each other (advisory lock), so the second finds the stored answer.
    """
    key = command.idempotency_key or runtime.task_id
    body_hash = unit.digest(runtime.task_name, command)

    def once() -> tuple[Work, Any]:
        with runtime.engine.begin() as db:
            db.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": key})
            loaded = loader.lock(db, (), [key])
            now, stored = loaded.now, loaded.stored
            work = Work(db, now, runtime.policy, runtime.task_id, runtime.task_name, command.actor, runtime)
            if key in stored:
                outcome = unit.replay(key, body_hash, stored[key])
                if outcome.error is not None:
                    raise outcome.error
                return work, outcome.answer
            unit.check_deadline(command, now)
            given = function(work, command)
            audit.append(
                db,
                runtime.task_name,
                command.body(),
                given,
                at=now,
                actor=command.actor,
                task_id=runtime.task_id,
            )
            row = {
                "key": key,
                "operation": runtime.task_name,
                "task_id": runtime.task_id,
                "body_hash": body_hash,
                "answer": given,
            }
            writer.store_answers(db, [row], now, runtime.policy.idempotency_life)
            return work, given

    work, given = again(runtime, once)
    _committed(runtime, work)
    return given


def again(runtime: Runtime, once: Callable[[], T]) -> T:
    """``once()``, run again after a lost race, at most TRIES times."""
    for attempt in range(1, TRIES + 1):
        try:
            return once()
        except writer.KeyTaken:
            if attempt == TRIES:
                raise
        except DBAPIError as error:
            if missing_partition(error) is not None:
                with runtime.engine.connect() as db:
                    now = clock(db)
                create_months(runtime.engine, now)
            elif error.connection_invalidated and attempt == 1:
                continue  # a pooled connection had died; whatever was committed is found by its key
            elif getattr(error.orig, "pgcode", None) not in _RACES:
                raise
            if attempt == TRIES:
                raise
        time.sleep(0.002 * attempt)
    raise AssertionError("unreachable")


def publish(runtime: Runtime, outcomes: Sequence[Outcome]) -> None:
    """Write-through of what was committed, and a hint for the relay. Never raises."""
    if documents := documents_of(outcomes):
        runtime.cache.put(documents, hint=True)


def documents_of(outcomes: Sequence[Outcome]) -> list[Document]:
    """The last document of each session among ``outcomes``."""
    last = {outcome.record.id: outcome for outcome in outcomes if outcome.record is not None}
    return [Document(outcome.record, outcome.document) for outcome in last.values() if outcome.record is not None]


def _committed(runtime: Runtime, work: Work) -> None:
    publish(runtime, work.written)
    for action in work.later:
        action()


def first_error(outcomes: Sequence[Outcome]) -> FleetError | None:
    """The first error among ``outcomes``, if any."""
    return next((outcome.error for outcome in outcomes if outcome.error is not None), None)
