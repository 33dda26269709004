"""A session row as the verbs see it: loaded, locked, immutable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from sessionfleet.words import LIVE, RECOVERABLE, TERMINAL, Status


@dataclass(frozen=True, kw_only=True)
class Record:
    """One row of ``sessions``, a field per column in the order of the table (a test compares them)."""

    id: str
    """The uuid as text, as everything that leaves the store has it."""
    external_id: str
    status: Status
    status_reason: str | None = None
    end_reason: str | None = None
    work_state: str | None = None
    session_type: str = "conversation"
    user_id: str | None = None
    owner_id: str | None = None
    agent_id: str | None = None
    orchestrator_id: str | None = None
    conversation_id: str | None = None
    provider: str | None = None
    model: str | None = None
    query: str | None = None
    current_directory: str | None = None
    process_id: int | None = None
    runtime_backend: str | None = None
    runtime_metadata: dict[str, Any]
    context: dict[str, Any]
    context_version: int = 1
    metadata: dict[str, Any]
    checkpoint: dict[str, Any] | None = None
    account_ids: list[str]
    tags: list[str]
    priority: str = "medium"
    timeout_seconds: int
    max_events: int
    metrics: dict[str, Any]
    error_message: str | None = None
    last_seq: int = 0
    state_version: int = 0
    revision: int = 0
    lease_epoch: int = 0
    recovery_needed: bool = False
    recovery_type: str | None = None
    recovery_count: int = 0
    last_chunk: int = 0
    output_bytes: int = 0
    output_lines: int = 0
    last_activity: datetime
    last_heartbeat: datetime | None = None
    created_at: datetime
    started_at: datetime | None = None
    updated_at: datetime
    expires_at: datetime | None = None
    warned_at: datetime | None = None
    warned_threshold: int | None = None
    recovered_at: datetime | None = None
    ended_at: datetime | None = None
    archived_at: datetime | None = None
    deleted_at: datetime | None = None
    next_check_at: datetime | None = None

    @property
    def live(self) -> bool:
        """initializing, active, idle, waiting_input or paused."""
        return self.status in LIVE

    @property
    def recoverable(self) -> bool:
        """interrupted or crashed."""
        return self.status in RECOVERABLE

    @property
    def terminal(self) -> bool:
        """completed, terminated, failed or expired."""
        return self.status in TERMINAL

    def overdue(self, now: datetime) -> bool:
        """The deadline has passed and no duty has acted on it yet (E-06)."""
        return not self.terminal and self.expires_at is not None and self.expires_at <= now

    @classmethod
    def of(cls, columns: dict[str, Any]) -> Record:
        """The row with these values, one for each of COLUMNS; the dict is the record's from now on. To set that
        many attributes one by one takes longer than all else that happens to a row."""
        made = object.__new__(cls)
        object.__setattr__(made, "__dict__", columns)
        return made

    @property
    def columns(self) -> Mapping[str, Any]:
        """All values by column, in the order of COLUMNS."""
        return self.__dict__

    def changed(self, new: Mapping[str, Any]) -> Record:
        """The same row with these columns changed."""
        return Record.of({**self.__dict__, **new}) if new else self


COLUMNS: tuple[str, ...] = tuple(field.name for field in fields(Record))
"""Column names of ``sessions`` in table order."""
