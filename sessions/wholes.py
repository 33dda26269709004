"""Which operations of a batch happen entirely or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sessionfleet.messages.apply import Whole
from sessions.change import Operation
from sessions.identifiers import uuid_text
from sessions.record import Record
from sessions.store.loader import locked_records

BATCH_BYTES = 128 * 1024 * 1024
"""What the answers of one batch have together, at most: they are in memory at once, in one statement, which ends at
1 GB, and in one message to Redis, which ends at 512 MB, and each may be a document of megabytes."""


def wholes(operations: Sequence[Operation], records: Mapping[str, Record], whole: Whole) -> list[list[int]]:
    """The places of the operations, by what belongs together; each list in order, lists by their first.

    Under ``session``: operations that name one session by any of its names, found among ``records`` or
    not, and operations with one idempotency key. No session and no key is then in two lists.
    """
    places = range(len(operations))
    if whole == "batch":
        return [list(places)]
    if whole == "operation":
        return [[place] for place in places]
    found: dict[str, _Group] = {}
    for place, operation in enumerate(operations):
        group = _Group([place], [])
        for name in names_of(operation, records):
            other = found.setdefault(name, group)
            if other is group:
                group.names.append(name)
                continue
            other.places += group.places
            other.names += group.names
            found.update(dict.fromkeys(group.names, other))
            group = other
    groups = {id(group): group for group in found.values()}
    return sorted(sorted(group.places) for group in groups.values())


@dataclass(slots=True)
class _Group:
    """Operations that belong together, and all they are known by."""

    places: list[int]
    names: list[str]


def names_of(operation: Operation, records: Mapping[str, Record]) -> Iterator[str]:
    """What an operation shares with others whose order matters: its key, and all names of its sessions."""
    yield f"key {operation.key}"
    for key in (operation.session_key, operation.second_key):
        if key is None:
            continue
        record = locked_records(records, key)
        if record is None:
            yield session_name(key)
        else:
            yield session_name(record.id)
            yield session_name(record.external_id)


def session_name(key: str) -> str:
    """One of :func:`names_of`: a session by its uuid in any spelling or its external id, which may look like one."""
    return f"session {uuid_text(key) or key}"
