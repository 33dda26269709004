"""One consumer's step in a group: what became of its events, the next ones, what is given up (rows D-11, D-12, D-18).

A letter is kept before its entry is ended: a crash in between gives the entry out again and finds the letter.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Engine

from fanout.groups import Groups, Held
from sessionfleet import consuming
from sessionfleet.consuming import DELIVERIES
from sessionfleet.event import Event
from sessionfleet.jsonvalue import jsonable
from sessionfleet.messages.event_delivery import Consume
from sessions import event_letters
from sessions.event_letters import GroupLetter


def consume(engine: Engine, groups: Groups, command: Consume) -> dict[str, Any]:
    """The answer of ``event.consume``. Raises what redis-py and SQLAlchemy raise; repeating it is harmless."""
    acknowledged = groups.acknowledge(command.group, command.ack)
    returned, letters = _failed(groups, command)
    items, more = _next(groups, command) if command.limit else ([], [])
    letters += more
    if letters:
        with engine.begin() as db:
            event_letters.keep(db, letters)
        groups.acknowledge(command.group, [letter.entry_id for letter in letters])
    return {"items": items, "acknowledged": acknowledged, "returned": returned, "dead_letters": len(letters)}


def _next(groups: Groups, command: Consume) -> tuple[list[dict[str, Any]], list[GroupLetter]]:
    items, letters = [], []
    for entry in groups.take(command.group, command.consumer, command.limit).entries:
        if entry.reason is not None:
            held = Held(entry.deliveries, entry.fields)
            letters.append(_letter(groups, command.group, entry.entry_id, entry.reason, held))
        elif entry.event is not None:
            event = dict(entry.event.raw)
            items.append({"stream_id": entry.entry_id, "deliveries": entry.deliveries, "event": event})
    return items, letters


def _failed(groups: Groups, command: Consume) -> tuple[list[str], list[GroupLetter]]:
    """Entries that are given out again, and those that had all their deliveries or hold no event. What the
    consumer does not hold any more is no longer its to fail."""
    returned, given_up = [], []
    for one in command.fail:
        held = groups.held(command.group, command.consumer, one.stream_id)
        if held is None:
            continue
        if held.fields is None:
            groups.acknowledge(command.group, [one.stream_id])
        elif held.deliveries >= DELIVERIES or consuming.event_of(held.fields) is None:
            given_up.append(_letter(groups, command.group, one.stream_id, one.reason, held))
        elif groups.put_back(command.group, command.consumer, one.stream_id, float(held.deliveries)):
            returned.append(one.stream_id)
    return returned, given_up


def _letter(groups: Groups, group: str, entry_id: str, reason: str, held: Held) -> GroupLetter:
    fields = held.fields or {}
    event = consuming.event_of(fields)
    raw = {_text(name): _text(value) for name, value in fields.items()}
    stream = consuming.streams(groups.keys.prefix, group)[consuming.place_of(entry_id)[0]]
    if event is not None and _is_storable(event):
        return GroupLetter(group, entry_id, event.event_id, stream, reason, held.deliveries, dict(event.raw))
    return GroupLetter(group, entry_id, None, stream, reason, held.deliveries, {"fields": raw})


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace").replace("\x00", "\\0")


def _is_storable(event: Event) -> bool:
    """Whether PostgreSQL can hold it as it is; anybody can write to a Stream."""
    try:
        jsonable(event.raw)
        return bool(UUID(event.event_id))
    except ValueError:
        return False
