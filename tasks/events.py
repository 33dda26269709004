"""Events for consumer groups, those nobody could take, the log of all (rows D-11, D-12, D-14, D-18)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from redis.exceptions import RedisError
from sqlalchemy import Connection

from fanout.groups import Groups, Held
from sessionfleet import consuming
from sessionfleet import messages as m
from sessionfleet.consuming import DELIVERIES, MALFORMED
from sessionfleet.errors import Unavailable
from sessions import event_letters, event_replay
from sessions.event_letters import GroupLetter
from tasks.base import command, duty, query
from tasks.runtime import Runtime
from tasks.unit_of_work import Work


@duty(m.Consume)
def consume(runtime: Runtime, command: m.Consume) -> dict[str, Any]:
    """What became of events taken before, then the next ones."""
    with reached(runtime) as groups:
        acknowledged = groups.acknowledge(command.group, command.ack)
        returned, given_up = _failed(groups, command)
        taken = groups.take(command.group, command.consumer, command.limit) if command.limit else None
        items = []
        for entry in taken.entries if taken else ():
            if entry.reason is None and entry.event is not None:
                event = {**entry.event.raw}
                items.append({"stream_id": entry.entry_id, "deliveries": entry.deliveries, "event": event})
            else:
                held = Held(entry.deliveries, entry.fields)
                given_up.append(_letter(groups, command.group, entry.entry_id, entry.reason or MALFORMED, held))
        if given_up:
            with runtime.engine.begin() as db:
                event_letters.keep(db, given_up)
            groups.acknowledge(command.group, [letter.entry_id for letter in given_up])
    return {
        "items": items,
        "acknowledged": acknowledged,
        "returned": returned,
        "dead_letters": len(given_up),
    }


def _failed(groups: Groups, command: m.Consume) -> tuple[list[str], list[GroupLetter]]:
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
    event_id = None if event is None or not _is_uuid(event.event_id) else event.event_id
    envelope = {**event.raw} if event_id and event else {"fields": raw}
    return GroupLetter(group, entry_id, event_id, stream, reason, held.deliveries, envelope)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace").replace("\x00", "\\0")


def _is_uuid(text: str) -> bool:
    try:
        return bool(UUID(text))
    except ValueError:
        return False


@query(m.ReplayEvents)
def replay(db: Connection, command: m.ReplayEvents, _: Runtime) -> dict[str, Any]:
    """The log of all sessions. Events that an open transaction holds back are waited for, for a moment."""
    for pause in (0.01, 0.1, 0.4, 1.5, 0.0):
        answer = event_replay.replay(db, command)
        if answer["next_cursor"] is None or len(answer["items"]) == command.limit:
            break
        time.sleep(pause)
    return answer


@query(m.EventDeadLetters)
def dead_letters(db: Connection, command: m.EventDeadLetters, _: Runtime) -> dict[str, Any]:
    """Events nobody could take."""
    return event_letters.page(db, command)


@command(m.RequeueEvents)
def requeue(work: Work, command: m.RequeueEvents) -> dict[str, Any]:
    """Once more to their groups. Sent before the commit; a second try after a crash in between finds the marker
    that the first one left."""
    rows = event_letters.take_for_requeue(work.db, command.ids)
    with reached(work.runtime) as groups:
        for row in rows:
            groups.requeue(row.id, row.consumer_group, row.envelope)
    requeued = [row.id for row in rows]
    return {"requeued": requeued, "skipped": sorted(set(command.ids) - set(requeued))}


@command(m.DiscardEvents)
def discard(work: Work, command: m.DiscardEvents) -> dict[str, int]:
    """Gone for good."""
    return {"discarded": event_letters.discard(work.db, command.ids)}


@contextmanager
def reached(runtime: Runtime) -> Iterator[Groups]:
    """The groups in Redis; raises Unavailable when it is away."""
    publisher = runtime.extras["publisher"]
    try:
        yield Groups(publisher.client, publisher.keys)
    except (RedisError, OSError) as error:
        raise Unavailable(service="Redis", reason=str(error) or type(error).__name__) from None
