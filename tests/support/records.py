"""Session rows and contexts for tests of pure verbs: no server, an instant of our own."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sessionfleet.messages.base import Write
from sessions import deadlines
from sessions.change import Change, Context, Operation
from sessions.policy import Policy
from sessions.record import Record
from sessions.settle import Settled, settle

NOW = datetime(2026, 3, 29, 12, 0, tzinfo=UTC)
SESSION_ID = UUID("7b0f0f0c-0000-4000-8000-000000000001")


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def context(now: datetime = NOW, **policy: Any) -> Context:
    """What a verb may know; ``policy`` changes single defaults."""
    return Context(now=now, policy=Policy(**policy), task_id="task-1", actor="tester")


def record(policy: Policy | None = None, **values: Any) -> Record:
    """A row as the store would have it: an active session that was created at NOW, with its deadline
    and its next check as settled, unless ``values`` say otherwise."""
    policy = policy or Policy()
    row = Record(
        **{
            "id": str(SESSION_ID),
            "external_id": "sess-1",
            "status": "active",
            "runtime_metadata": {},
            "context": {},
            "metadata": {},
            "account_ids": [],
            "tags": [],
            "timeout_seconds": policy.session_timeout_seconds,
            "max_events": policy.max_events_per_session,
            "metrics": {},
            "state_version": 2,
            "revision": 2,
            "last_seq": 2,
            "last_activity": NOW,
            "created_at": NOW,
            "started_at": NOW,
            "updated_at": NOW,
        }
        | values
    )
    if "expires_at" not in values and not row.terminal:
        row = dataclasses.replace(row, expires_at=deadlines.deadline(row, policy))
    if "next_check_at" not in values:
        row = dataclasses.replace(row, next_check_at=deadlines.next_check(row, row.updated_at, policy))
    return row


def settled(session: Record | None, change: Change, ctx: Context, message: Write | None = None) -> Settled:
    """The rows a change comes to, as the unit of work would write them."""
    operation = Operation("test.operation", message or Write(), lambda *_: change, "task-1", str(SESSION_ID), "key-1")
    return settle(session, change, operation, ctx)
