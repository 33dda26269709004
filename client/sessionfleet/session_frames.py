"""Events and output of one session in one row of frames, and what the reader says (R-09)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, get_args

from sessionfleet import frames
from sessionfleet.chunk import Chunk
from sessionfleet.errors import FleetError
from sessionfleet.event import END, Event
from sessionfleet.event_stream import EventStream
from sessionfleet.feed import end
from sessionfleet.frames import Frame
from sessionfleet.servers import Servers
from sessionfleet.session_events import SessionEvents
from sessionfleet.session_output import SessionOutput
from sessionfleet.session_source import Ask
from sessionfleet.source import Batches, Source
from sessionfleet.subscription import Subscription
from sessionfleet.words import Status

STATUSES = frozenset(get_args(Status))


class SessionFrames(Source[Frame]):
    """Status frames in ``seq`` order and output frames in ``chunk_no`` order; between the two there is no
    order, but both are complete before the end."""

    def __init__(
        self,
        servers: Servers,
        ask: Ask,
        session_id: str,
        after_seq: int | None,
        after_chunk: int | None,
        start_seconds: float,
    ) -> None:
        self._ask = ask
        self._events = SessionEvents(servers, ask, session_id, after_seq, start_seconds)
        self._output = SessionOutput(servers, ask, session_id, after_chunk, start_seconds)
        self._answers: asyncio.Queue[list[Frame]] = asyncio.Queue()

    def mark(self, name: str, **payload: str) -> Frame:
        """A ping, or the frame ``terminated`` for an end."""
        place = {**self._who, "seq": self._events.cursor, "chunk_no": self._output.cursor}
        if name == END:
            return frames.Terminated.model_validate({**place, **payload}).model_dump(mode="json")
        return frames.Ping.model_validate(place).model_dump(mode="json")

    async def batches(self) -> Batches[Frame]:
        """See :meth:`Source.batches`; after the first, a typed error is a frame."""
        async with aclosing(self._events.batches()) as events, aclosing(self._output.batches()) as output:
            await anext(events)
            await anext(output)
            yield []
            yield [self._connected()]
            steps = {
                "events": asyncio.create_task(_next(events)),
                "output": asyncio.create_task(_next(output)),
                "answers": asyncio.create_task(self._answers.get()),
            }
            try:
                while len(steps) > 1:
                    await asyncio.wait(steps.values(), return_when=asyncio.FIRST_COMPLETED)
                    for name in [name for name, step in steps.items() if step.done()]:
                        found = steps.pop(name).result()
                        if found is None:
                            continue  # complete
                        if name == "answers":
                            steps[name] = asyncio.create_task(self._answers.get())
                        else:
                            steps[name] = asyncio.create_task(_next(events if name == "events" else output))
                        yield [frame for item in found if (frame := self._frame(item)) is not None]
                self.over = self._events.over
            except FleetError as error:
                self.over = "error"
                yield [self._error(error)]
            finally:
                await end(*steps.values())

    async def receive(self, sent: Mapping[str, Any] | str | bytes) -> None:
        """Does what the reader asks for. The answer is a frame; a refusal is one too and never raised."""
        try:
            asked = frames.parse(sent)
        except FleetError as error:
            self._answers.put_nowait([self._error(error)])
            return
        try:
            if isinstance(asked, frames.GetStatus):
                found = await self._ask("session.attach", session_id=self._events.session_id)
                self._answers.put_nowait([self._status(found, asked.id)])
            else:
                await self._ask("session.send_input", session_id=self._events.session_id, content=asked.content)
        except FleetError as error:
            self._answers.put_nowait([self._error(error, asked.id)])

    @property
    def _who(self) -> dict[str, str]:
        return {"session_id": self._events.session_id}

    def _connected(self) -> Frame:
        attached = self._events.attached
        return frames.Connected(
            **self._who,
            status=attached["session"]["status"],
            state_version=attached["state_version"],
            seq=self._events.cursor,
            chunk_no=self._output.cursor,
        ).model_dump(mode="json")

    def _frame(self, item: Event | Chunk | Frame) -> Frame | None:
        """None for marks, and for events that tell of no status."""
        if isinstance(item, dict):
            return item
        if item.is_mark:
            return None
        if isinstance(item, Chunk):
            return frames.Output(
                **self._who,
                chunk_no=item.chunk_no,
                stream=item.stream,
                content=item.content,
                at=None if item.at is None else item.at.isoformat(),
                missed=item.missed,
            ).model_dump(mode="json")
        if item.payload.get("status") not in STATUSES:
            return None
        return frames.StatusFrame(
            **self._who,
            status=item.payload["status"],
            seq=item.seq,
            state_version=item.metadata.get("state_version"),
            event=item.event_name,
            actor=item.actor,
            reason=item.payload.get("reason"),
            at=None if item.timestamp is None else item.timestamp.isoformat(),
        ).model_dump(mode="json")

    def _status(self, found: Mapping[str, Any], id_: str | None) -> Frame:
        return frames.StatusFrame(
            **self._who,
            status=found["session"]["status"],
            seq=found["cursor"],
            state_version=found["state_version"],
            reason=found["session"]["status_reason"],
            id=id_,
        ).model_dump(mode="json")

    def _error(self, error: FleetError, id_: str | None = None) -> Frame:
        return frames.ErrorFrame.model_validate({**self._who, **error.shape(), "id": id_}).model_dump(mode="json")


class AsyncFrames(Subscription[Frame]):
    """Async iterator of frames that also takes some; made by :meth:`AsyncFleet.frames`."""

    _source: SessionFrames

    async def send(self, sent: Mapping[str, Any] | str | bytes) -> None:
        """``{"type": "get_status"}`` or ``{"type": "input", "content": ...}``, as an object or as JSON; the
        answer, or an error frame, comes among the others. Nothing once it is closed."""
        if not self.closed:
            await self._source.receive(sent)


class Frames(EventStream[Frame]):
    """Iterator of frames that also takes some, from any thread; made by :meth:`Fleet.frames`."""

    _subscription: AsyncFrames

    def send(self, sent: Mapping[str, Any] | str | bytes) -> None:
        """See :meth:`AsyncFrames.send`."""
        if not self._subscription.closed:
            self._loop.run(self._subscription.send(sent))


async def _next(batches: Batches[Any]) -> list[Any] | None:
    return await anext(batches, None)
