"""Running operations inside one transaction: load and lock, look up answers, decide, settle, write.

One operation or many, of one message or many, the same code: that is what lets a worker commit waiting messages
together without any verb knowing it. Each whole (:mod:`sessions.wholes`) happens entirely or not at all; an
operation that is a whole by itself changes nothing of the others when it fails.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from sessionfleet.errors import (
    DeadlineExceeded,
    FleetError,
    IdempotencyConflict,
    NotApplied,
    PayloadTooLarge,
    SessionNotFound,
)
from sessionfleet.jsontext import Encoded, canonical, canonical_json
from sessionfleet.messages.base import Write
from sessions import deadlines
from sessions.change import Batch, Change, Context, Operation, Outcome
from sessions.document import shown
from sessions.duties import refuse_overdue
from sessions.guards import json_size
from sessions.policy import Policy
from sessions.record import Record
from sessions.settle import Row, Settled, answer, joined, settle
from sessions.store import loader, writer
from sessions.wholes import BATCH_BYTES, names_of, session_name, wholes


@dataclass(slots=True)
class _Run:
    """The state of a transaction: the rows as they stand after its operations so far."""

    now: datetime
    policy: Policy
    records: dict[str, Record]
    stored: dict[str, loader.Stored]
    agents: frozenset[str]
    settled: list[Settled] = field(default_factory=list)
    answers: list[Row] = field(default_factory=list)
    replaced: list[tuple[str, Record | None]] = field(default_factory=list)
    """Names among the records with what stood there before, in the order of the changes."""
    room: int = 0
    """Bytes that are left of BATCH_BYTES."""

    def put(self, record: Record) -> None:
        """The row as it stands from now on."""
        for name in (record.external_id, record.id):
            self.replaced.append((name, self.records.get(name)))
            self.records[name] = record

    def take_back(self, settled: int, answers: int, replaced: int, *, keep: bool) -> None:
        """Undo what was done since there were so many of each; ``keep``: but for the last change of a row."""
        for row in self.answers[answers:]:
            del self.stored[row["key"]]
        del self.answers[answers:]
        del self.settled[settled : len(self.settled) - keep]
        for name, record in reversed(self.replaced[replaced : len(self.replaced) - 2 * keep]):
            if record is None:
                del self.records[name]
            else:
                self.records[name] = record


def run(
    db: Connection,
    batches: Sequence[Batch],
    policy: Policy,
    lock_seconds: int | None = None,
    *,
    skip_held: bool = False,
    commit: bool = False,
) -> list[list[Outcome]]:
    """Run ``batches`` in order in the open transaction of ``db``; the caller commits. ``commit``: it is one of
    :func:`sessions.store.transaction.joined` and nothing else happens in it: COMMIT may go with the last statement.

    Locks the sessions they name in id order. Outcomes come by batch, in the order of its operations.
    ``lock_seconds``: how long to wait for a row that another transaction holds, in place of the connection's own
    limit. ``skip_held``: do not wait; a whole on a held row, and what comes after it on one of its sessions, is left
    out, its outcomes say ``held``. Raises what the database raises, and :class:`sessions.store.writer.KeyTaken`: roll
    back, run again.
    """
    operations = [operation for batch in batches for operation in batch.operations]
    keys = {key for op in operations for key in (op.session_key, op.second_key) if key is not None}
    replayed = [op.key for op in operations if op.idempotent]
    loaded = loader.lock(db, keys, replayed, lock_seconds, skip_held=skip_held)
    records, replayable = loader.by_keys(loaded.records), frozenset(loaded.stored)
    known = loader.known_agents(db, _agents(operations)) if policy.check_agents else frozenset()
    state = _Run(loaded.now, policy, records, loaded.stored, known)
    held: dict[str, frozenset[str]] = {}
    for pair in loaded.held:
        names = frozenset(map(session_name, pair))
        held |= dict.fromkeys(names, names)
    outcomes = [_batch(state, batch, held) for batch in batches]
    refused = [
        operation.key
        for batch, each in zip(batches, outcomes, strict=True)
        for operation, outcome in zip(batch.operations, each, strict=True)
        if operation.idempotent and outcome.error
    ]
    unknown = [key for key in refused if key not in replayable]
    if unknown and loader.is_stored(db, unknown):
        raise writer.KeyTaken  # they failed on what the first use of their key has left
    writer.write(db, joined(state.settled), state.answers, policy, loaded.now, commit=commit)
    return outcomes


def _agents(operations: Sequence[Operation]) -> set[str]:
    return {name for op in operations if (name := getattr(op.message, "agent_id", None)) is not None}


def _batch(state: _Run, batch: Batch, held: dict[str, frozenset[str]]) -> list[Outcome]:
    """Each whole by itself; no session, no name of one and no idempotency key is in two of them. One that is left out
    adds its names to ``held``, for those behind it."""
    operations, whole = batch
    if len(operations) == 1 and not held:
        return [_one(state, operations[0])]
    state.room = BATCH_BYTES
    if whole == "operation" and not held:
        return [_next(state, operation) for operation in operations]
    outcomes: dict[int, Outcome] = {}
    for places in wholes(operations, state.records, whole):
        if held and (names := _held_by(state, [operations[place] for place in places], held)):
            outcomes |= dict.fromkeys(places, Outcome(held=names))
        else:
            outcomes |= _whole(state, operations, places)
    return [outcomes[place] for place in range(len(operations))]


def _held_by(state: _Run, operations: Sequence[Operation], held: dict[str, frozenset[str]]) -> frozenset[str]:
    """Nothing, unless one of their names is held; then all of them, which are held from now on for those behind, and
    those of what they wait for."""
    own = {name for operation in operations for name in names_of(operation, state.records)}
    if own.isdisjoint(held):
        return frozenset()
    names = frozenset(own).union(*(held[name] for name in own & held.keys()))
    held |= dict.fromkeys(names, names)
    return names


def _whole(state: _Run, operations: Sequence[Operation], places: Sequence[int]) -> dict[int, Outcome]:
    """Operations in order up to the first that fails; then none of them has happened."""
    before, room = (len(state.settled), len(state.answers), len(state.replaced)), state.room
    outcomes: dict[int, Outcome] = {}
    for place in places:
        outcome = outcomes[place] = _next(state, operations[place])
        if outcome.error is None:
            continue
        # The expiry of an overdue session stays (E-06), unless these operations have changed that session themselves,
        # be it to what made it overdue: what is taken back leaves no such session.
        expired = outcome.record is not None
        changed = {settled.record.id for settled in state.settled[before[0] : len(state.settled) - expired]}
        keep = outcome.record is not None and outcome.record.id not in changed
        state.take_back(*before, keep=keep)
        state.room = room
        if not keep:
            outcomes[place] = Outcome(error=outcome.error)
        because = NotApplied(index=place, code=outcome.error.code)
        for other in places:
            if other != place:
                outcomes[other] = _replayed(state, operations[other]) or Outcome(error=because)
        break
    return outcomes


def _next(state: _Run, operation: Operation) -> Outcome:
    """One of several of a batch. One whose answer does not fit with those before it has not happened, unless it had
    before: it takes its room all the same, so that no repeat of a batch answers more and more."""
    before = len(state.settled), len(state.answers), len(state.replaced)
    outcome = _one(state, operation)
    if outcome.replayed:
        state.room -= json_size(outcome.answer)
    elif isinstance(outcome.answer, Encoded):
        size = len(outcome.answer.text)
        if size > state.room:
            state.take_back(*before, keep=False)
            size += BATCH_BYTES - state.room
            return Outcome(error=PayloadTooLarge(field="answers", size=size, limit=BATCH_BYTES))
        state.room -= size
    return outcome


def _one(state: _Run, operation: Operation) -> Outcome:
    if (first := _replayed(state, operation)) is not None:
        return first
    try:
        session = _session(state, operation)
        now = state.now if session is None else max(state.now, session.updated_at)
        ctx = Context(now, state.policy, operation.task_id, operation.message.actor, state.agents)
        check_deadline(operation.message, now)
        change = _decide(operation, session, ctx)
        settled = settle(session, change, operation, ctx) if change.create or session else None
    except FleetError as error:
        return Outcome(error=error)
    if settled is None:
        return Outcome()
    record, wrote = settled.record, not settled.empty
    if wrote:
        state.settled.append(settled)
        state.put(record)
    if change.error is not None:
        return Outcome(error=change.error, record=record)
    document: Encoded | None = None
    if change.answer is not None:
        given: Any = change.answer(record)
    else:
        document = Encoded(shown(record))
        given = answer(change, document)
    if operation.idempotent:
        _keep_answer(state, operation, given)
    return Outcome(answer=given, record=record, document=document) if wrote else Outcome(answer=given)


def _replayed(state: _Run, operation: Operation) -> Outcome | None:
    """What the first use of the operation's key came to."""
    if operation.idempotent and (first := state.stored.get(operation.key)) is not None:
        return replay(operation.key, digest(operation.name, operation.message), first)
    return None


def _keep_answer(state: _Run, operation: Operation, given: Any) -> None:
    body_hash = digest(operation.name, operation.message)
    state.answers.append(
        {
            "key": operation.key,
            "operation": operation.name,
            "task_id": operation.task_id,
            "body_hash": body_hash,
            "answer": given,
        }
    )
    state.stored[operation.key] = loader.Stored(operation.name, operation.task_id, body_hash, given)


def _session(state: _Run, operation: Operation) -> Record | None:
    for key in (operation.session_key, operation.second_key):
        session = loader.locked_records(state.records, key)
        # A tombstone is no session, but while it lies there its uuid cannot be given again.
        if session is not None and (session.deleted_at is None or (operation.creates and session.id == key)):
            return session
    if not operation.creates:
        raise SessionNotFound(session_id=operation.session_key)
    return None


def _decide(operation: Operation, session: Record | None, ctx: Context) -> Change:
    guarded = session is not None and not operation.creates and operation.refuses_overdue
    if guarded and session is not None and deadlines.overdue(session, ctx.now, ctx.policy):
        return refuse_overdue(session, ctx)
    return operation.verb(session, operation.message, ctx)


def check_deadline(message: Write, now: datetime) -> None:
    """Raise DeadlineExceeded when the caller no longer waits (E-19)."""
    deadline = message.deadline_at
    if deadline is not None and deadline < now:
        raise DeadlineExceeded(deadline_at=deadline.isoformat())


def replay(key: str, body_hash: str, first: loader.Stored) -> Outcome:
    """The stored answer with ``replayed=true``, or IdempotencyConflict for another body (B-13)."""
    if first.body_hash != body_hash:
        return Outcome(error=IdempotencyConflict(idempotency_key=key, first_task_id=first.task_id))
    given = first.answer.value if isinstance(first.answer, Encoded) else first.answer
    return Outcome(answer={**given, "replayed": True} if isinstance(given, dict) else given, replayed=True)


def digest(name: str, message: Write) -> str:
    """What two uses of one idempotency key must share: SHA-256 over the operation's name and its canonical arguments,
    without key and deadline."""
    try:
        text = canonical_json([name, message.given()])
    except TypeError:  # the message class has the JSON form of instants and of models within
        text = canonical([name, message.body()])
    return hashlib.sha256(text).hexdigest()
