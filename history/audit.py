"""Audit rows of commands (row I-03); those of session verbs are written by ``sessions/``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, insert

from models import AuditEvent, table_of

TOLD = ("version", "updates", "note", "owner_id", "execution_id", "deleted")
SUBJECTS = ("schedule_id", "agent_id", "user_id", "execution_id")
"""Arguments that name what a command is about, first found first."""


def append(
    db: Connection,
    operation: str,
    arguments: Mapping[str, Any],
    answer: Any,
    *,
    at: datetime,
    actor: str | None,
    task_id: str,
) -> None:
    """One row for a command in its own transaction: ``schedule.create`` becomes the event type
    ``schedule_create`` on the resource ``schedule:<id>``, which arguments or answer name. Of the arguments the
    names are kept, and the values of :data:`TOLD`; of the answer what :data:`TOLD` names. A command that
    answers ``changed=false`` did nothing and leaves no row."""
    told = answer if isinstance(answer, dict) else {}
    if told.get("changed") is False:
        return
    known = {**told, **arguments}
    row = {
        "event_id": uuid4(),
        "timestamp": at,
        "session_id": None,
        "event_type": operation.replace(".", "_"),
        "actor": actor,
        "action": operation,
        "resource": resource(operation, known),
        "metadata": {
            "task_id": task_id,
            "arguments": sorted(arguments),
            **{name: known[name] for name in TOLD if known.get(name) is not None},
        },
    }
    db.execute(insert(table_of(AuditEvent)), row)


def resource(operation: str, known: Mapping[str, Any]) -> str:
    """What a command is about, as ``kind:id``; just the kind where nothing is named."""
    for name in SUBJECTS:
        if known.get(name) is not None:
            return f"{name.removesuffix('_id')}:{known[name]}"
    return operation.partition(".")[0]
