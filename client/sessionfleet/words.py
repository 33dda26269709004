"""The fleet's closed vocabularies: statuses, their sets, priorities, streams, modes (A-04, E-14)."""

from __future__ import annotations

from typing import Literal, get_args

Status = Literal[
    "initializing",
    "active",
    "idle",
    "waiting_input",
    "paused",
    "interrupted",
    "crashed",
    "completed",
    "terminated",
    "failed",
    "expired",
]
STATUSES: tuple[Status, ...] = get_args(Status)
LIVE: frozenset[Status] = frozenset({"initializing", "active", "idle", "waiting_input", "paused"})
RECOVERABLE: frozenset[Status] = frozenset({"interrupted", "crashed"})
TERMINAL: frozenset[Status] = frozenset({"completed", "terminated", "failed", "expired"})

Priority = Literal["critical", "high", "medium", "low"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)

EndReason = Literal["completed", "user", "error", "timeout", "hard_limit", "agents_left", "shutdown", "deleted"]
RuntimeBackend = Literal["local", "kubernetes", "unknown"]
RecoveryType = Literal["crash", "compaction", "timeout", "manual"]
OutputStream = Literal["stdout", "stderr", "input"]
Mode = Literal["merge", "shallow", "patch", "replace", "append"]
Severity = Literal["low", "medium", "high", "critical"]

ConsumerGroup = Literal["session_handlers", "file_watchers", "git_monitors", "system_monitors"]
CONSUMER_GROUPS: tuple[ConsumerGroup, ...] = get_args(ConsumerGroup)

OWN_NAME = "sess-"
"""What the external id of a session that was given none begins with; its id follows."""

SESSION_TYPES: tuple[str, ...] = (
    "conversation",
    "development",
    "task",
    "batch",
    "runtime",
    "scheduled",
    "on_demand",
    "manual",
    "recovery",
)
"""The known session types (A-15); any other ``[a-z0-9_]{1,64}`` is accepted unless strict_session_types."""
