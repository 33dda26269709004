"""The update verbs (rows A-13, A-14, B-01..B-06, B-08, B-14)."""

from __future__ import annotations

from typing import Any

from sessionfleet.errors import AgentNotFound, ValidationFailed
from sessionfleet.messages.base import Write
from sessionfleet.messages.content import SetChange, Update, UpdateContext, UpdateMetrics
from sessionfleet.messages.fields import Writable
from sessionfleet.words import Status
from sessions import lifecycle, patches
from sessions.change import NOTHING, AuditDraft, Change, Context, EventDraft, Patch
from sessions.guards import (
    check_column,
    check_session_type,
    check_timeout,
    check_version,
    check_writable,
)
from sessions.machine import check_move
from sessions.record import Record
from sessions.shapes import check_context

DOCUMENTS = ("context", "metadata", "runtime_metadata")
SETS = ("account_ids", "tags")
SCALARS = (*(name for name in Writable.model_fields if name not in DOCUMENTS), "status_reason")
NEVER_NULL = frozenset({"session_type", "priority"})
BATCH_FIELDS = ("current_batch", "total_batches", "recommendations_count", "checkpoint_timestamp")
BATCH_SETS = ("processed_accounts", "failed_accounts")
UNCHANGING = frozenset({*Write.model_fields, "session_id", "mode"})
"""Arguments that say how to write and not what."""

_PLACES = {field: place for place, field in enumerate((*DOCUMENTS, *SCALARS, *SETS))}
"""The order in which changes are made, and named in `updates`."""


class _Edit:
    """Collects what really changes: new column values, their names, the RFC 6902 operations."""

    def __init__(self, session: Record, mode: str) -> None:
        self.session = session
        self.mode = mode
        self.columns: dict[str, Any] = {}
        self.patch: Patch = []

    def document(self, field: str, value: Any, mode: str | None = None) -> None:
        old = self.columns.get(field, getattr(self.session, field))
        if value is None:
            new, patch = patches.apply("replace", field, old, {})
        else:
            new, patch = patches.apply(mode or self.mode, field, old, value)
        if patch:
            self.columns[field] = new
            self.patch += patch

    def column(self, field: str, value: Any) -> None:
        if not patches.same(getattr(self.session, field), value):
            self.columns[field] = value
            # `add` replaces what is there and needs nothing to be there, wherever a replay begins.
            self.patch.append({"op": "add", "path": f"/{field}", "value": value})

    def ordered_set(self, field: str, change: SetChange | None) -> None:
        self.column(field, self.changed_set(getattr(self.session, field), change))

    def changed_set(self, old: list[Any], change: SetChange | None) -> list[Any]:
        """The set after ``change``; null empties it, and with mode append a whole list is added."""
        change = change or SetChange(set=[])
        if self.mode == "append" and change.set is not None:
            return patches.ordered_set(old, [*change.set, *change.add], change.remove, None)
        return patches.ordered_set(old, change.add, change.remove, change.set)

    def change(self, ctx: Context, to: Status | None = None, reason: str | None = None) -> Change:
        """The change of everything collected, or nothing (B-04). ``reason``: of the move to ``to``."""
        if not self.columns and to is None:
            return NOTHING
        for field, value in self.columns.items():
            check_column(field, value, ctx.policy)
        if "context" in self.columns or "session_type" in self.columns:
            session_type = self.columns.get("session_type", self.session.session_type)
            check_context(session_type, self.columns.get("context", self.session.context), ctx.policy.context_schemas)
        updates = list(self.columns)
        if "context" in self.columns:
            self.columns["context_version"] = self.session.context_version + 1
        if to is not None:
            return lifecycle.moved(
                self.session, ctx, to, reason=reason, columns=self.columns, updates=updates, patch=self.patch
            )
        return Change(
            columns=self.columns,
            updates=updates,
            patch=self.patch,
            events=[EventDraft("session.updated", state_change=True)],
            state=True,
        )


def update(session: Record, command: Update, ctx: Context) -> Change:
    """Changes any writable column, and the status by the table of A-06, in one state change.

    What commutes is never stale (B-02); everything else compares ``expected_version``.
    """
    given = command.model_fields_set - UNCHANGING
    if command.expected_version is not None and not _commutes(command, DOCUMENTS, SETS):
        check_version(session, command)
    to = _new_status(session, command)
    if to is None and given != {"status"}:
        check_writable(session)
    edit = _Edit(session, command.mode)
    for field in sorted(given - {"status"}, key=_PLACES.__getitem__):
        if field in DOCUMENTS:
            edit.document(field, getattr(command, field))
        elif field in SETS:
            edit.ordered_set(field, getattr(command, field))
        else:
            edit.column(field, _scalar(field, command, ctx))
    if to is not None and (word := lifecycle.process_word(command.status)):
        edit.document("runtime_metadata", word, mode="merge")
    return edit.change(ctx, to, command.status_reason)


def _commutes(command: Update | UpdateContext, documents: tuple[str, ...], sets: tuple[str, ...]) -> bool:
    """Whether all that is given are additions to lists and sets, and removals from sets."""
    appends = command.mode == "append"
    given = command.model_fields_set - UNCHANGING
    for field in given:
        value = getattr(command, field)
        if field in documents:
            if not appends or value is None:
                return False
        elif field not in sets or value is None or (value.set is not None and not appends):
            return False
    return bool(given)


def _new_status(session: Record, command: Update) -> Status | None:
    if command.status is None:
        if "status" in command.model_fields_set:
            raise ValidationFailed.of("status", "cannot be null")
        return None
    to = lifecycle.status_of(command.status)
    if to == session.status:
        return None
    check_move(session.status, to)
    return to


def _scalar(field: str, command: Update, ctx: Context) -> Any:
    value = getattr(command, field)
    if value is None and field in NEVER_NULL:
        raise ValidationFailed.of(field, "cannot be null")
    if field == "timeout_seconds":
        check_timeout(value, ctx.policy)
        return value or ctx.policy.session_timeout_seconds
    if field == "max_events":
        return value or ctx.policy.max_events_per_session
    if field == "session_type":
        check_session_type(value, ctx.policy)
    if field == "agent_id" and ctx.policy.check_agents and value is not None and value not in ctx.known_agents:
        raise AgentNotFound(agent_id=value)
    return value


def update_context(session: Record, command: UpdateContext, ctx: Context) -> Change:
    """Changes the context and its named batch fields; unknown arguments went to metadata (B-05)."""
    if command.expected_version is not None and not _commutes(command, DOCUMENTS, (*SETS, *BATCH_SETS)):
        check_version(session, command)
    check_writable(session)
    given = command.model_fields_set
    edit = _Edit(session, command.mode)
    if "context" in given:
        edit.document("context", command.context)
    batch = {field: getattr(command, field) for field in BATCH_FIELDS if field in given}
    for field in BATCH_SETS:
        if field in given and (change := getattr(command, field)) is not None:
            present = edit.columns.get("context", session.context).get(field)
            batch[field] = edit.changed_set(present if isinstance(present, list) else [], change)
        elif field in given:
            batch[field] = None
    if batch:
        edit.document("context", batch, mode="shallow")
    if "metadata" in given:
        edit.document("metadata", command.metadata)
    for field in SETS:
        if field in given:
            edit.ordered_set(field, getattr(command, field))
    return edit.change(ctx)


def update_metrics(session: Record, command: UpdateMetrics, ctx: Context) -> Change:
    """Adds to the counters; commutes, so it is no state change and never stale (B-02, B-06)."""
    check_writable(session)
    metrics = patches.add_up(session.metrics, command.metrics)
    if patches.same(metrics, session.metrics):
        return NOTHING
    check_column("metrics", metrics, ctx.policy)
    return Change(
        columns={"metrics": metrics}, updates=["metrics"], audit=[AuditDraft("session_metrics", command.metrics)]
    )
