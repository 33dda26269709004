"""What a worker process holds for its tasks: pools, cache, policy. Made after the fork, one each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from sqlalchemy import Engine

from fanout.cache import DocumentCache
from fanout.hints import Hints
from sessionfleet.words import Priority
from sessions.policy import Policy


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Resources of one process, and the task they are bound to while it runs.

    ``engine`` works in the application role, ``owner_engine`` keeps the login's own rights (DDL of
    partition upkeep). ``send`` publishes a task message: wire name, arguments, priority. It is for
    follow-up work after a commit, and a message it loses must be found again by a sweep.
    """

    engine: Engine
    owner_engine: Engine
    cache: DocumentCache
    hints: Hints
    policy: Policy
    send: Callable[[str, dict[str, Any], Priority], None]
    database_schema: str = "public"
    partitions_ahead: int = 3
    audit_retention_months: int = 6
    misfire_grace: int = 300
    task_id: str = ""
    task_name: str = ""
    extras: dict[str, Any] = field(default_factory=dict)
    """Resources of single duties, by name."""

    def bound(self, task_id: str, task_name: str) -> Self:
        """The same resources on behalf of one task."""
        return dataclasses.replace(self, task_id=task_id, task_name=task_name)
