"""The one shape schedules and executions have in answers: JSON types, instants as ISO 8601 with offset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from models import ScheduledReview, ScheduleExecution, table_of
from reviews import zones

Document = dict[str, Any]

_HIDDEN = frozenset({"deleted_at", "not_before", "publish_at", "publishes", "lease_expires_at"})
_SCHEDULE = tuple(name for name in table_of(ScheduledReview).c.keys() if name not in _HIDDEN)  # noqa: SIM118
_EXECUTION = tuple(name for name in table_of(ScheduleExecution).c.keys() if name not in _HIDDEN)  # noqa: SIM118


def schedule(row: Mapping[str, Any]) -> Document:
    """A schedule with every field as stored; ``next_run_local`` is ``next_run`` in its own zone."""
    shown = {name: _json(row[name]) for name in _SCHEDULE}
    next_run = row["next_run"]
    local = None if next_run is None else next_run.astimezone(zones.zone(row["timezone"])).isoformat()
    return {**shown, "next_run_local": local}


def execution(row: Mapping[str, Any], attempts: Sequence[Mapping[str, Any]] = ()) -> Document:
    """One slot of the ledger with its attempts, first to last."""
    shown = {name: _json(row[name]) for name in _EXECUTION}
    tried = [{name: _json(value) for name, value in one.items() if name != "execution_id"} for one in attempts]
    return {**shown, "attempts": tried}


def _json(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
