"""Events for consumer groups, those nobody could take, the log of all (rows D-11, D-12, D-14, D-18)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy import Connection

from fanout.groups import Groups
from sessionfleet import messages as m
from sessionfleet.errors import Unavailable
from sessions import event_letters, event_replay
from tasks import event_groups
from tasks.base import command, duty, query
from tasks.runtime import Runtime
from tasks.unit_of_work import Work


@duty(m.Consume)
def consume(runtime: Runtime, command: m.Consume) -> dict[str, Any]:
    """What became of events taken before, then the next ones."""
    with reached(runtime) as groups:
        return event_groups.consume(runtime.engine, groups, command)


@query(m.ReplayEvents)
def replay(db: Connection, command: m.ReplayEvents, _: Runtime) -> dict[str, Any]:
    """The log of all sessions. Events that an open transaction holds back are waited for, for a moment."""
    for pause in (0.01, 0.1, 0.4, 1.5, 0.0):
        answer, held = event_replay.replay(db, command)
        if not held:
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
