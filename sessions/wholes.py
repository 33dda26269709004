"""Which operations of a batch happen entirely or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from sessionfleet.messages.apply import Whole
from sessions.change import Operation
from sessions.identifiers import uuid_text
from sessions.record import Record
from sessions.store.loader import locked_records


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
    root: dict[str, str] = {}
    for operation in operations:
        first, *others = (_find(root, name) for name in _names(operation, records))
        for other in others:
            root[_find(root, other)] = _find(root, first)
    found: dict[str, list[int]] = {}
    for place, operation in enumerate(operations):
        found.setdefault(_find(root, next(_names(operation, records))), []).append(place)
    return list(found.values())


def _names(operation: Operation, records: Mapping[str, Record]) -> Iterator[str]:
    yield f"key {operation.key}"
    for key in (operation.session_key, operation.second_key):
        if key is None:
            continue
        record = locked_records(records, key)
        if record is None:
            yield f"session {uuid_text(key) or key}"
        else:
            yield f"session {record.id}"
            yield f"session {record.external_id}"


def _find(root: dict[str, str], name: str) -> str:
    """Whom ``name`` belongs to; shortens the way there for the next one."""
    while (above := root.setdefault(name, name)) != name:
        root[name] = root[above]
        name = above
    return name
