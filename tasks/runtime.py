"""What a worker process holds for its tasks: pools, cache, policy. Made after the fork, one each."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol, Self

from sqlalchemy import Engine

from fanout.cache import Cacheable, DocumentCache
from sessionfleet.errors import FleetError
from sessionfleet.words import Priority
from sessions.policy import Policy


class Outgoing(NamedTuple):
    """A task message to send: as the arguments of :class:`Send`."""

    name: str
    arguments: dict[str, Any]
    priority: Priority = "medium"
    start: datetime | None = None
    queue: str | None = None


class Send(Protocol):
    """Publishes one task message; ``many`` of them in one go. Both raise what the broker raises."""

    def __call__(
        self,
        name: str,
        arguments: dict[str, Any],
        priority: Priority = "medium",
        *,
        start: datetime | None = None,
        queue: str | None = None,
    ) -> None: ...

    def many(self, messages: Sequence[Outgoing]) -> None: ...


class Answer(NamedTuple):
    """What a caller gets: an answer, or a typed error."""

    task_id: str
    given: Any = None
    error: FleetError | None = None
    reply_to: str | None = None
    """The channel the caller listens on; None: it reads the Celery result."""
    ignored: bool = False
    stored: bool = False
    """Whether PostgreSQL keeps it under its idempotency key as the answer of this very task: should its message get
    lost, the caller finds it there."""


class Answering(Protocol):
    """Delivers answers of tasks that ran together and puts the documents they committed into the cache, before the
    callers hear of them, with a hint for the relay. Never raises: all of it is in PostgreSQL."""

    def __call__(self, answers: Sequence[Answer], documents: Sequence[Cacheable], /) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Resources of one process, and the task they are bound to while it runs.

    ``engine`` works in the application role, ``owner_engine`` keeps the login's own rights (DDL of
    partition upkeep). ``send`` publishes a task message: wire name, arguments, priority; with ``start`` it is
    not run before that instant, with ``queue`` it goes to a queue of another service. It is for
    follow-up work after a commit: a message it loses must be found again by a sweep, and ``send.many`` may send a
    message twice. ``answer`` delivers answers of operations that Celery did not run (:mod:`tasks.together`).
    """

    engine: Engine
    owner_engine: Engine
    cache: DocumentCache
    policy: Policy
    send: Send
    answer: Answering
    database_schema: str = "public"
    partitions_ahead: int = 3
    audit_retention_months: int = 6
    misfire_grace: int = 300
    dispatch_due_interval: int = 1
    owner_parallelism: int = 1
    ledger_retention_days: int = 90
    task_id: str = ""
    task_name: str = ""
    extras: dict[str, Any] = field(default_factory=dict)
    """Resources of single duties, by name."""

    def bound(self, task_id: str, task_name: str) -> Self:
        """The same resources on behalf of one task."""
        return dataclasses.replace(self, task_id=task_id, task_name=task_name)
