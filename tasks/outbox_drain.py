"""Draining the outbox: committed events from PostgreSQL to Redis, in order (rows C-04, D-08, D-09).

One :class:`Drain` belongs to one leader's term. Whoever leads, the relay process or the sweep, calls
:meth:`Drain.begin`, then :meth:`Drain.step` for as long as it leads, and at last :meth:`Drain.save`. A crash
between publishing and saving the cursor repeats nothing: Redis refuses what it has. A leader that was paused and
replaced does no harm either: its old events are refused, its cursor is fenced by the lease's epoch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection

from fanout.envelope import ENDINGS, encode, is_global, message
from fanout.groups import Groups
from fanout.publish import Outgoing, Output, Published, Publisher, PublishOutage
from fanout.streams import Streams
from sessions import outbox, outbox_generation, outbox_output
from sessions.event_queries import envelope
from sessions.outbox import Batch, Cursor, DeadLetter, Entry, Leader
from sessions.outbox_generation import Floor

log = logging.getLogger(__name__)

REFUSALS = 3
"""Refusals for its own sake after which an event becomes a dead letter (D-09)."""

KEEP = 1000
"""Entries of the Stream of a session whose row is gone."""

SAVE_EVERY = 0.2
"""Seconds between two saves of the cursor while events come: each is a commit that waits for the disk, and what was
published since the last is only refused once more by the Streams. Streams that were lost as well refuse nothing."""

_READER = ThreadPoolExecutor(1, "outbox")
"""Reads the next batch while Redis takes this one."""

NO_CHUNKS: Mapping[outbox_output.Key, outbox_output.Chunk] = {}


class NoLongerLeader(Exception):
    """Another process has taken the lease; nothing was saved."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one step did. ``more``: go on at once, more is there; ``waiting``: what is left waits for an older
    transaction to end; ``pause``: seconds until the next try of an event that was refused."""

    published: int = 0
    repeats: int = 0
    buried: int = 0
    more: bool = False
    waiting: bool = False
    pause: float = 0.0


class Drain:
    """One leader's way through the outbox. All methods raise PublishOutage or RedisError while Redis is away,
    what SQLAlchemy raises while PostgreSQL is, and NoLongerLeader."""

    def __init__(self, db: Connection, publisher: Publisher, leader: Leader) -> None:
        """``db`` must be in AUTOCOMMIT: each statement sees what was committed before it."""
        self._db = db
        self._publisher = publisher
        self._streams = Streams(publisher.client, publisher.keys)
        self._groups = Groups(publisher.client, publisher.keys)
        self._leader = leader
        self._cursor = self._saved = Cursor(0, 0, 0, 0, 1)
        self._saved_at = 0.0
        self._floor: Floor | None = None
        self._settled = 0
        self._ahead: tuple[Cursor, Future[Batch]] | None = None

    def begin(self) -> None:
        """Loads the cursor and makes sure that the Streams belong to this database's past and have their groups."""
        self._cursor = self._saved = outbox.load_cursor(self._db)
        self._saved_at, self._floor, self._ahead = time.monotonic(), None, None
        if outbox_generation.turned_back(self._db, self._cursor):
            self._streams.retire(self._cursor.generation)
            self._floor, self._settled = outbox_generation.floor(self._db), 0
            log.warning("the database was restored: Streams begin anew", extra=self._generations())
        elif self._is_foreign():
            log.warning("the Streams hold another database's events: they begin anew", extra=self._generations())
            self._streams.retire(self._cursor.generation)
            self._save(self._next_generation(self._cursor))
        self.keep_groups()

    def keep_groups(self) -> None:
        """Upkeep, every few seconds: a FLUSHALL takes the consumer groups along (D-11)."""
        self._groups.keep()

    def step(self) -> Step:
        """Publishes one batch, and saves the cursor when the last save is SAVE_EVERY ago or nothing is to be
        published."""
        if self._floor is not None:
            return self._settle(self._floor)
        batch = self._next()
        if not batch.entries:
            self.save()
            return Step(waiting=batch.waiting)
        entries = self._affordable(batch.entries)
        more = batch.more or len(entries) < len(batch.entries)
        result = self._publish(entries, self._cursor.at(int(entries[-1].xid), entries[-1].id) if more else None)
        if result.repeats and self._is_foreign():
            self.save()
            self.begin()
            return Step(more=True)
        if result.done:
            self._reach(entries[result.done - 1])
            self._forgive(entries[: result.done])
        if result.refused:
            first = entries[result.done]
            return self._refused(entries, result, self._cursor.at(int(first.xid), first.id))
        return Step(result.done - result.repeats, result.repeats, more=more, waiting=batch.waiting and not more)

    @property
    def is_saved(self) -> bool:
        """Whether PostgreSQL knows how far everything is published."""
        return self._cursor == self._saved

    def save(self) -> None:
        """Saves the cursor if it was not; what is published is published without it."""
        if not self.is_saved:
            self._save(self._cursor)

    def trim(self) -> None:
        """Upkeep, now and then: ages Stream entries out, bounds dead letters."""
        before = outbox.position_before(self._db, self._cursor)
        outbox.prune_dead_letters(self._db)
        self._streams.trim(before)

    def _next(self) -> Batch:
        """What lies behind the cursor: as it was read ahead, if all before it was published."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == self._cursor:
            return ahead[1].result()
        return outbox.read_batch(self._db, self._cursor)

    @contextmanager
    def _reading(self, behind: Cursor | None) -> Iterator[None]:
        """Reads meanwhile what lies behind a position; nothing else may use the connection until the end."""
        if behind is None:
            yield
            return
        reading = _READER.submit(outbox.read_batch, self._db, behind)
        try:
            yield
        finally:
            wait([reading])
        self._ahead = (behind, reading)

    def _affordable(self, rows: Sequence[Entry]) -> Sequence[Entry]:
        return outbox_output.affordable(rows, outbox.BATCH_BYTES)

    def _publish(self, rows: Sequence[Entry], ahead: Cursor | None = None) -> Published:
        """Publishes ``rows``, and reads meanwhile what lies behind ``ahead``, if asked to."""
        unsayable: list[str] = []
        chunks = outbox_output.chunks(self._db, rows)

        def events() -> Iterator[Outgoing]:
            for row in rows:
                try:
                    yield outgoing(row, chunks)
                except (TypeError, ValueError, KeyError) as error:
                    unsayable.append(f"{type(error).__name__}: {error}")
                    return

        try:
            with self._reading(ahead):
                result = self._publisher.publish(events())
        except PublishOutage as outage:
            self.save()
            tried = [row.event_id for row in rows[outage.done : outage.tried]]
            outbox.record_failures(self._db, tried, str(outage), "outage")
            raise
        if unsayable and not result.refused:
            result.refused[result.done] = unsayable[0]
        return result

    def _refused(self, rows: Sequence[Entry], result: Published, after: Cursor) -> Step:
        """Counts the refusals; the first of them goes to the dead letters at its third, and the cursor to
        ``after`` with it."""
        counts: dict[str, int] = {}
        for place, reason in result.refused.items():
            counts |= outbox.record_failures(self._db, [rows[place].event_id], reason, "refusal")
        row, reason = rows[result.done], result.refused[result.done]
        refusals = counts[row.event_id]
        told = {"event_id": row.event_id, "session_id": row.session_id, "refusals": refusals}
        log.warning("event refused: %s", reason, extra=told)
        published = result.done - result.repeats
        if refusals < REFUSALS:
            return Step(published, result.repeats, pause=2.0 ** (refusals - 1))
        tries = row.retry_count + 1
        body = encode(message(envelope(row), stream_id=_stream_id(row), retry_count=tries, entity_ids=row.entity_ids))
        subject = self._publisher.keys.session_channel(row.session_id)
        if not outbox.bury(self._db, after, self._leader, DeadLetter(row.event_id, subject, reason, tries, body)):
            raise NoLongerLeader
        self._cursor = self._saved = after
        return Step(published, result.repeats, buried=1, more=True)

    def _forgive(self, rows: Sequence[Entry]) -> None:
        failed_before = [row.event_id for row in rows if row.retry_count]
        if failed_before:
            outbox.clear_failures(self._db, failed_before)

    def _reach(self, last: Entry) -> None:
        self._cursor = self._cursor.at(int(last.xid), last.id)
        if time.monotonic() - self._saved_at >= SAVE_EVERY:
            self.save()

    def _save(self, cursor: Cursor) -> None:
        if not outbox.save_cursor(self._db, cursor, self._leader):
            raise NoLongerLeader
        self._cursor = self._saved = cursor
        self._saved_at = time.monotonic()

    def _is_foreign(self) -> bool:
        """Whether the Stream's newest entry is ahead of the cursor and unknown here. Ahead alone is what a
        crash between publishing and saving leaves."""
        newest = self._streams.newest()
        if newest is None or newest[:2] <= (self._cursor.xid, self._cursor.last_id):
            return False
        return not outbox_generation.knows(self._db, *newest)

    def _settle(self, line: Floor) -> Step:
        """After a restore: publishes by id what is left from before, then begins the new generation."""
        if not outbox_generation.is_complete(self._db, line):
            return Step(waiting=True)
        rows = self._affordable(
            outbox_generation.read_leftovers(self._db, self._cursor, line, self._settled, outbox.MAX_BATCH)
        )
        if not rows:
            settled = Cursor(0, line.id, max(line.id, self._cursor.high_id), line.id, self._cursor.generation)
            self._save(self._next_generation(settled))
            self._floor = None
            return Step(more=True)
        result = self._publish(rows)
        self._settled = rows[result.done - 1].id if result.done else self._settled
        self._forgive(rows[: result.done])
        if not result.refused:
            return Step(result.done - result.repeats, result.repeats, more=True)
        step = self._refused(rows, result, self._cursor)
        self._settled = rows[result.done].id if step.buried else self._settled
        return step

    def _next_generation(self, cursor: Cursor) -> Cursor:
        return Cursor(cursor.xid, cursor.last_id, cursor.high_id, cursor.floor_id, cursor.generation + 1)

    def _generations(self) -> dict[str, int]:
        return {"old_generation": self._cursor.generation, "generation": self._cursor.generation + 1}


def outgoing(row: Entry, chunks: Mapping[outbox_output.Key, outbox_output.Chunk] = NO_CHUNKS) -> Outgoing:
    """An outbox row made ready for Redis, with its chunk among ``chunks`` if it tells of one."""
    stored, name = envelope(row), row.event_name
    wire = message(stored, stream_id=_stream_id(row), retry_count=row.retry_count, entity_ids=row.entity_ids)
    return Outgoing(
        stream_id=wire["stream_id"],
        event_id=stored["event_id"],
        session_id=stored["session_id"],
        seq=row.seq,
        event_name=name,
        keep=row.max_events or KEEP,
        message=encode(wire),
        to_channels=row.publish,
        to_global=is_global(name),
        deleted=name == "session.deleted",
        output=_output(row, chunks),
    )


def _output(row: Entry, chunks: Mapping[outbox_output.Key, outbox_output.Chunk]) -> Output | None:
    if row.event_name in ENDINGS:
        return None if row.status is None else Output.end(row.last_chunk, row.status)
    key = outbox_output.key_of(row)
    chunk = None if key is None else chunks.get(key)
    if chunk is None:
        return None
    at = chunk["created_at"].isoformat()
    return Output.chunk(row.session_id, chunk["chunk_no"], chunk["stream"], chunk["content"], at)


def _stream_id(row: Entry) -> str:
    return f"{row.xid}-{row.id}"
