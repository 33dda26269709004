"""Following the events of one session by ``seq`` (D-07, D-13, D-15)."""

from __future__ import annotations

from redis.asyncio import Redis

from sessionfleet.event import Event, event_in
from sessionfleet.session_source import Fields, SessionSource
from sessionfleet.source import PAGE, Batches


class SessionEvents(SessionSource[Event]):
    """One session's events after seq ``after``, each once, in ``seq`` order, without gap. Ends after the
    session's terminal event, or its deletion."""

    numbered_by = "after_seq"
    _entry: str | None = None
    """The Stream entry of the last event, if it came from there."""

    def mark(self, name: str, **payload: str) -> Event:
        """A mark with ``seq`` so far."""
        return Event.mark(name, self.session_id, self.cursor, **payload)

    @property
    def _stream(self) -> str:
        return f"{self._prefix}stream:session:{self.session_id}"

    def _reached(self) -> int:
        return int(self.attached["cursor"])

    def _place(self) -> str:
        return f"({self._entry}" if self._entry else "-"

    def _number(self, fields: Fields) -> int:
        seq = fields.get(b"seq", b"")
        return int(seq) if seq.isdigit() else 0

    def _item(self, entry_id: str, fields: Fields) -> Event | None:
        return event_in(fields.get(b"envelope", b""), entry_id)

    async def _page(self) -> list[Event]:
        answer = await self._asked("session.get_events", after_seq=self.cursor, limit=PAGE)
        return [Event.of(envelope) for envelope in answer["items"]]

    async def _hear(self, redis: Redis, data: bytes) -> Batches[Event]:
        if (event := event_in(data)) is not None:
            async for batch in self._next(redis, event.seq, event):
                yield batch

    def _taken(self, items: list[Event]) -> list[Event]:
        self._after, self._entry = items[-1].seq, items[-1].stream_id
        if items[-1].is_last:
            self.over = items[-1].event_name.removeprefix("session.")
        return items
