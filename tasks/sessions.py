"""Tasks on sessions: one line each. The verb decides, the message class validates."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from sessionfleet import messages as m
from sessionfleet.errors import SessionNotFound
from sessionfleet.words import TERMINAL
from sessions import (
    attaching,
    content,
    creation,
    emission,
    event_queries,
    lifecycle,
    output,
    output_queries,
    queries,
    removal,
    sweeps,
)
from sessions.document import document
from sessions.pages import ANSWER_BYTES
from tasks.base import batch, command, operation, query
from tasks.runtime import Runtime
from tasks.unit_of_work import Work

CLOCK_DOUBT = timedelta(seconds=60)
"""How far this host's clock may be from the database's before a cached deadline is misjudged."""

operation(m.Create, creation.create, creates=True)
operation(m.Start, lifecycle.start)
operation(m.Pause, lifecycle.pause)
operation(m.Resume, lifecycle.resume)
operation(m.Idle, lifecycle.idle)
operation(m.WaitInput, lifecycle.wait_input)
operation(m.Interrupt, lifecycle.interrupt)
operation(m.Crash, lifecycle.crash)
operation(m.Recover, lifecycle.recover)
operation(m.Complete, lifecycle.complete)
operation(m.Terminate, lifecycle.terminate)
operation(m.Fail, lifecycle.fail)
operation(m.Expire, lifecycle.expire, refuses_overdue=False)
operation(m.SetStatus, lifecycle.set_status)
operation(m.Touch, lifecycle.touch)
operation(m.Extend, lifecycle.extend)
operation(m.Update, content.update)
operation(m.UpdateContext, content.update_context)
operation(m.UpdateMetrics, content.update_metrics)
operation(m.AppendOutput, output.append_output)
operation(m.EmitEvent, emission.emit_event)
operation(m.Delete, removal.delete, refuses_overdue=False)
batch(m.Apply)


@command(m.DeleteByUser)
def delete_by_user(work: Work, command: m.DeleteByUser) -> dict[str, Any]:
    """Delete all sessions of one user, in one transaction (Q-07)."""
    gone: list[str] = []
    while ids := sweeps.of_user(work.db, command.user_id):
        outcomes = work.apply(ids, removal.delete, command, refuses_overdue=False)
        for outcome in outcomes:
            if outcome.error is None:
                gone.append(outcome.answer["id"])
            elif not isinstance(outcome.error, SessionNotFound):  # else another delete was quicker
                raise outcome.error
    return {"deleted": len(gone), "ids": gone}


def from_cache(runtime: Runtime, command: m.Get) -> dict[str, Any] | None:
    """The cached document, unless parts were asked for or its deadline is near: whether a session is
    overdue is for the database clock to say (E-06)."""
    if command.include:
        return None
    cached = runtime.cache.find(command.session_id)
    return cached if cached is not None and _usable(runtime, cached, command.min_version) else None


def _usable(runtime: Runtime, cached: dict[str, Any], min_version: int = 0) -> bool:
    """Whether the document is new enough and its deadline not near. One with values that the fleet never writes is
    corrupt and goes (B-11)."""
    try:
        return bool(cached["state_version"] >= min_version) and not _deadline_near(cached)
    except (TypeError, ValueError):
        runtime.cache.drop(cached["id"])
        return False


def _deadline_near(cached: dict[str, Any]) -> bool:
    if cached["status"] in TERMINAL or cached["expires_at"] is None:
        return False
    return datetime.fromisoformat(cached["expires_at"]) - datetime.now(UTC) < CLOCK_DOUBT


@query(m.Get, cached=from_cache)
def get(db: Connection, command: m.Get, runtime: Runtime) -> dict[str, Any]:
    """One session from PostgreSQL; the document goes back to the cache (Q-01, B-10)."""
    record, shown = queries.get(db, command.session_id, runtime.policy)
    runtime.cache.put([document(record)])
    return shown | parts(db, command, shown["id"])


def parts(db: Connection, command: m.Get, session_id: str) -> dict[str, Any]:
    """The parts a get asked for beside the document."""
    found: dict[str, Any] = {}
    if "events" in command.include:
        last = m.GetEvents(session_id=session_id, order="desc", limit=50)
        found["events"] = event_queries.events(db, last)["items"][::-1]
    return found


def all_from_cache(runtime: Runtime, command: m.GetMany) -> dict[str, Any] | None:
    """The answer, if the cache has every one of it."""
    wanted = list(dict.fromkeys(command.session_ids))
    cached = runtime.cache.get_many(wanted, ANSWER_BYTES)
    seen = wanted[: cached.looked_at]
    if not all(key in cached.documents and _usable(runtime, cached.documents[key]) for key in seen):
        return None
    return {"items": [cached.documents[key] for key in seen], "missing": [], "left": wanted[cached.looked_at :]}


@query(m.GetMany, cached=all_from_cache)
def get_many(db: Connection, command: m.GetMany, runtime: Runtime) -> dict[str, Any]:
    """Several sessions, those that are not cached from PostgreSQL (Q-01), as many as one answer carries."""
    wanted = list(dict.fromkeys(command.session_ids))
    cached = runtime.cache.get_many(wanted, ANSWER_BYTES)
    found = {key: one for key, one in cached.documents.items() if _usable(runtime, one)}
    seen = wanted[: cached.looked_at]
    read, more = queries.get_many(
        db, [key for key in seen if key not in found], ANSWER_BYTES - cached.size, runtime.policy
    )
    runtime.cache.put(document(record) for record, _ in read.values())
    found |= {key: shown for key, (_, shown) in read.items()}
    items = {found[key]["id"]: found[key] for key in wanted if key in found}
    absent = [key for key in seen if key not in found]
    unread, missing = (absent, []) if more else ([], absent)
    return {"items": list(items.values()), "missing": missing, "left": [*unread, *wanted[cached.looked_at :]]}


@query(m.List)
def list_(db: Connection, command: m.List, runtime: Runtime) -> dict[str, Any]:
    """Sessions by filters (Q-02)."""
    return queries.page(db, command, runtime.policy)


@query(m.ListActive)
def list_active(db: Connection, command: m.ListActive, runtime: Runtime) -> dict[str, Any]:
    """Live sessions (Q-04)."""
    return queries.active(db, command, runtime.policy)


@query(m.GetByUser)
def get_by_user(db: Connection, command: m.GetByUser, runtime: Runtime) -> dict[str, Any]:
    """A user's sessions and the newest alone (Q-04)."""
    return queries.by_user(db, command, runtime.policy)


@query(m.Count)
def count(db: Connection, command: m.Count, _: Runtime) -> dict[str, Any]:
    """Sessions per status (Q-03)."""
    return queries.count(db, command)


@query(m.History)
def history(db: Connection, command: m.History, _: Runtime) -> dict[str, Any]:
    """Every transition (A-20)."""
    return queries.history(db, command)


@query(m.ReadOutput)
def read_output(db: Connection, command: m.ReadOutput, runtime: Runtime) -> dict[str, Any]:
    """Output from a cursor (C-02)."""
    return output_queries.read_output(db, command, runtime.policy)


@query(m.Attach)
def attach(db: Connection, command: m.Attach, runtime: Runtime) -> dict[str, Any]:
    """State and cursor of one snapshot (D-15)."""
    snapshot = db.execution_options(isolation_level="REPEATABLE READ")
    return attaching.attach(snapshot, command, runtime.policy)


@query(m.StoredAnswers)
def answers(db: Connection, command: m.StoredAnswers, _: Runtime) -> dict[str, Any]:
    """Answers by idempotency key (B-13)."""
    return queries.answers(db, command)


@query(m.GetEvents)
def get_events(db: Connection, command: m.GetEvents, _: Runtime) -> dict[str, Any]:
    """Events from a cursor (D-13)."""
    return event_queries.events(db, command)
