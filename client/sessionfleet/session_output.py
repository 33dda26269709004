"""Following the output of one session by ``chunk_no`` (C-04)."""

from __future__ import annotations

from dataclasses import replace

from redis.asyncio import Redis

from sessionfleet.chunk import Chunk, chunk_in
from sessionfleet.errors import SessionNotFound
from sessionfleet.event import event_in
from sessionfleet.session_source import Fields, SessionSource
from sessionfleet.source import PAGE, Batches


class SessionOutput(SessionSource[Chunk]):
    """One session's chunks after number ``after``, each once, in order. Ends when the session has ended and
    all it wrote was handed out, or was deleted.

    Entries of the Stream have the ids ``{chunk_no}-0``, so a reader goes on anywhere at once.
    """

    numbered_by = "after_chunk"

    def mark(self, name: str, **payload: str) -> Chunk:
        """A mark with ``chunk_no`` so far."""
        return Chunk(self.session_id, self.cursor, mark=name, reason=payload.get("reason"))

    @property
    def _stream(self) -> str:
        return f"{self._prefix}stream:output:{self.session_id}"

    def _reached(self) -> int:
        return int(self.attached["last_chunk"])

    def _place(self) -> str:
        return f"({self.cursor}-0"

    def _number(self, fields: Fields) -> int:
        number = fields.get(b"chunk_no", b"")
        return int(number) if number.isdigit() else 0

    def _item(self, entry_id: str, fields: Fields) -> Chunk | None:  # noqa: ARG002
        try:
            return Chunk.of(self.session_id, {name.decode(): value.decode() for name, value in fields.items()})
        except (KeyError, ValueError):
            return None

    async def _page(self) -> list[Chunk]:
        answer = await self._asked("session.read_output", after_chunk=self.cursor, limit=PAGE)
        found = [Chunk.of(self.session_id, chunk) for chunk in answer["chunks"]]
        if found:
            found[0] = replace(found[0], missed=found[0].chunk_no - self.cursor - 1)
        return found

    async def _hear(self, redis: Redis, data: bytes) -> Batches[Chunk]:
        if (chunk := chunk_in(self.session_id, data)) is not None:
            async for batch in self._next(redis, chunk.chunk_no, chunk):
                yield batch
        elif (event := event_in(data)) is not None and event.is_last:
            async for batch in self._finish(redis):
                yield batch

    async def _look(self, redis: Redis) -> Batches[Chunk]:
        newest = await self._newest(redis)
        batches = self._finish(redis) if b"end" in newest else self._catch_up(redis, self._number(newest))
        async for batch in batches:
            yield batch

    async def _finish(self, redis: Redis) -> Batches[Chunk]:
        """The last chunks; PostgreSQL says which those are."""
        try:
            self.attached = await self._asked("session.attach")
        except SessionNotFound:  # deleted; the Stream is kept a few minutes longer
            async for batch in self._from_stream(redis):
                yield batch
            raise
        if self.attached["session"]["ended_at"] is not None:
            async for batch in self._catch_up(redis, self._reached()):
                yield batch
            self.over = self.attached["session"]["status"]

    def _taken(self, items: list[Chunk]) -> list[Chunk]:
        self._after = items[-1].chunk_no
        return items
