"""The document of a session: the one shape it has in answers, lists and cache (row B-10)."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from typing import Any

from sessionfleet.jsontext import Encoded
from sessionfleet.words import Status
from sessions import deadlines
from sessions.policy import Policy
from sessions.record import COLUMNS, Record

INTERNAL = ("next_check_at", "warned_threshold", "last_chunk")
_FIRST = {"revision": 0, "last_seq": 0}
SHOWN: tuple[str, ...] = tuple(name for name in dict.fromkeys((*_FIRST, *COLUMNS)) if name not in INTERNAL)
"""Columns of the document in its order; the cache's compare-and-set reads the first ones."""

INSTANTS = tuple(field.name for field in fields(Record) if "datetime" in str(field.type) and field.name in SHOWN)


def shown(record: Record) -> dict[str, Any]:
    """The shown columns with instants as they are, for those who make JSON text of it."""
    made = {**_FIRST, **record.columns}
    for name in INTERNAL:
        del made[name]
    return made


class Document(Encoded):
    """The document of a record as JSON text, and the fields by which the cache files it. ``text``: where it is made
    already."""

    __slots__ = ("_columns",)

    def __init__(self, record: Record, text: Encoded | None = None) -> None:
        super().__init__(text or shown(record))
        self._columns = record.columns

    def __getitem__(self, name: str) -> Any:
        return self._columns[name]

    def get(self, name: str) -> Any:
        return self._columns.get(name)


def document(record: Record) -> dict[str, Any]:
    """All shown columns as JSON types; instants are ISO 8601 with offset."""
    made = shown(record)
    for name in INSTANTS:
        if (value := made[name]) is not None:
            made[name] = value.isoformat()
    return made


def status_as_read(record: Record, now: datetime) -> Status:
    """The status as a read shows it: an overdue session reads as expired before any duty has come
    by (E-06)."""
    return "expired" if record.overdue(now) else record.status


def as_read(record: Record, now: datetime, policy: Policy) -> dict[str, Any]:
    """The document with the status of :func:`status_as_read`, and the reason that the duty will write. Nothing is
    written."""
    read = document(record)
    if record.overdue(now):
        read |= {"status": "expired", "end_reason": deadlines.end_reason(record, policy)}
    return read
