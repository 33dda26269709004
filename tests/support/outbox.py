"""Events without a worker process, and what arrives of them in Redis."""

from __future__ import annotations

import json
import threading
import uuid
from collections import defaultdict
from typing import Any, Self

import redis
from sqlalchemy import Connection, text

import tasks.all  # noqa: F401 - declares the tasks
from sessionfleet.jsontext import plain
from sessionfleet.messages import message_type
from tasks.outbox_drain import Drain, Step
from tests.support.running import RunningFleet
from tests.support.waiting import eventually
from workers.resources import build_runtime


class LocalWorker:
    """The tasks of a worker, run in this process: same runtime, same transaction, no broker."""

    def __init__(self, fleet: RunningFleet) -> None:
        self.runtime = build_runtime(fleet.settings, lambda *_: None, lambda _: None)

    def call(self, name: str, /, **arguments: Any) -> Any:
        from tasks.base import DECLARED, execute

        runtime = self.runtime.bound(uuid.uuid4().hex, name)
        return plain(execute(DECLARED[name], runtime, message_type(name).parse(arguments)))

    def create(self, **arguments: Any) -> str:
        """A new session; its id."""
        return str(self.call("session.create", **arguments)["id"])

    def emit(self, session_id: str, **payload: Any) -> int:
        """One event of a session; its seq."""
        return int(self.call("session.emit_event", session_id=session_id, type="test", payload=payload)["seq"])

    def close(self) -> None:
        self.runtime.engine.dispose()
        self.runtime.owner_engine.dispose()
        self.runtime.cache.client.close()


class Listener:
    """Collects what is published on channels from its start on."""

    def __init__(self, client: redis.Redis, *patterns: str) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self._pubsub = client.pubsub(ignore_subscribe_messages=True)
        self._patterns = patterns
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Self:
        self._pubsub.psubscribe(*self._patterns)
        for _ in self._patterns:
            self._pubsub.get_message(timeout=60)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._pubsub.close()

    def _listen(self) -> None:
        while not self._done.is_set():
            try:
                message = self._pubsub.get_message(timeout=0.1)
            except redis.RedisError:
                self._done.wait(0.05)  # it subscribes again by itself
                continue
            if message is not None:
                self.messages.append((message["channel"], json.loads(message["data"])))

    def on(self, channel: str) -> list[dict[str, Any]]:
        """What came on one channel, in order."""
        return [envelope for name, envelope in list(self.messages) if name == channel]


def horizon_passes(fleet: RunningFleet) -> None:
    """Waits until all that is committed now may be read from the outbox.

    The outbox keeps back what is not older than every running transaction of the PostgreSQL cluster; autovacuum
    and the fleets of other tests have some for moments. A transaction that the caller holds open never passes.
    """
    with fleet.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        _horizon_passes(db)


def _horizon_passes(db: Connection) -> None:
    newest = db.execute(text("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")).scalar_one()
    passed = text("SELECT pg_snapshot_xmin(pg_current_snapshot()) >= CAST(:newest AS xid8)")
    eventually(lambda: db.execute(passed, {"newest": newest}).scalar_one(), every=0.005)


def drained(drain: Drain) -> Step:
    """Steps until nothing is left to publish: the sums of what they published, repeated and buried.

    How many steps that takes depends on the transactions of others, see :func:`horizon_passes`. AssertionError
    when an event is refused and not buried: whoever tests that looks at single steps.
    """
    done: list[Step] = []

    def at_the_end() -> bool:
        while True:
            done.append(drain.step())
            if not done[-1].more:
                return not done[-1].waiting

    eventually(at_the_end, every=0.005)
    assert not done[-1].pause, done
    return Step(sum(one.published for one in done), sum(one.repeats for one in done), sum(one.buried for one in done))


def stored_events(fleet: RunningFleet) -> int:
    """Events PostgreSQL holds."""
    with fleet.engine.connect() as db:
        return int(db.execute(text("SELECT count(*) FROM session_events")).scalar_one())


def streamed(fleet: RunningFleet, stream: str = "stream:events") -> list[dict[str, Any]]:
    """The envelopes of a Stream, in order."""
    entries: Any = fleet.cache.xrange(fleet.settings.channel_prefix + stream)
    return [json.loads(fields["envelope"]) for _, fields in entries]


def everything_arrives(fleet: RunningFleet, timeout: float = 60) -> list[dict[str, Any]]:
    """Waits until the Stream of all events has as many entries as PostgreSQL has events; checks that they
    are the same ones, each once, and each session's in seq order from 1; answers them."""
    count = stored_events(fleet)
    eventually(lambda: fleet.cache.xlen(fleet.settings.channel_prefix + "stream:events") >= count, timeout, 0.05)
    envelopes = streamed(fleet)
    in_order(envelopes)
    with fleet.engine.connect() as db:
        stored = {str(row[0]) for row in db.execute(text("SELECT event_id FROM session_events"))}
    assert {envelope["event_id"] for envelope in envelopes} == stored
    return envelopes


def in_order(envelopes: list[dict[str, Any]]) -> None:
    """Each event once, each session's from seq 1 without gap."""
    seqs: dict[str, list[int]] = defaultdict(list)
    for envelope in envelopes:
        seqs[envelope["session_id"]].append(envelope["seq"])
    for session_id, found in seqs.items():
        assert found == list(range(1, len(found) + 1)), session_id
