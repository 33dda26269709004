"""Publishing events: Streams and channels in one step per event (rows C-04, D-07, D-09, D-10)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from hiredis import pack_command
from redis import Connection, Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from fanout.connection import Kept
from fanout.envelope import encode
from fanout.keys import PROBE, Keys
from fanout.script import Script

ALL_ENTRIES = 100_000
"""Entries the Stream of all events keeps, about."""

STREAM_LIFE = 7 * 86_400
"""Seconds an entry of the Stream of all events, and a session's Stream after its last event, is kept."""

OUTPUT_ENTRIES = 1000
OUTPUT_BYTES = 10 * 1024 * 1024
"""Chunks and, if all are as long as the latest, bytes of content the Stream of a session's output keeps: the
default output buffer (C-03). PostgreSQL has the rest of a larger one."""

CALL_EVENTS = 50
CALL_BYTES = 1_048_576
"""Events and message bytes per script call, about: Redis serves nobody else during one."""

_publish = Script("publish")


class PublishOutage(Exception):
    """Redis cannot take events now. Events ``[:done]`` of the batch are published, ``[done:tried]`` may be."""

    def __init__(self, error: Exception, done: int, tried: int) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.done = done
        self.tried = tried


@dataclass(frozen=True, slots=True)
class Output:
    """One entry for the Stream of a session's output: a chunk, or the end. ``entry_id`` rises with the chunks,
    ``message`` is for the session's channel, "" for none (C-04)."""

    entry_id: str
    fields: tuple[str, ...]
    message: str = ""
    keep: int = OUTPUT_ENTRIES

    @classmethod
    def chunk(cls, session_id: str, chunk_no: int, stream: str, content: str, at: str) -> Self:
        """One chunk; ``at`` is its instant in ISO 8601."""
        parts = {"chunk_no": chunk_no, "stream": stream, "content": content, "at": at}
        fields = tuple(str(part) for pair in parts.items() for part in pair)
        keep = max(1, min(OUTPUT_ENTRIES, OUTPUT_BYTES // max(1, len(content.encode()))))
        message = encode({"type": "output", "session_id": session_id, **parts})
        return cls(f"{chunk_no}-0", fields, message, keep)

    @classmethod
    def end(cls, last_chunk: int, status: str) -> Self:
        """The end frame, after the last chunk; the channel carries the event itself."""
        return cls(f"{last_chunk}-1", ("end", status))

    def arguments(self) -> tuple[str | int, ...]:
        """As the script takes it."""
        return (self.entry_id, self.keep, self.message, *self.fields)


@dataclass(slots=True)
class Outgoing:
    """One event ready to go. ``stream_id``: its entry id; ``keep``: entries its session's Stream keeps;
    ``output``: what goes to the Stream of its session's output with it."""

    stream_id: str
    event_id: str
    session_id: str
    seq: int
    event_name: str
    keep: int
    message: str
    to_channels: bool = True
    to_global: bool = False
    deleted: bool = False
    output: Output | None = None

    @property
    def size(self) -> int:
        """Of what is sent, about."""
        return len(self.message) + (2 * len(self.output.message) if self.output else 0)

    @property
    def flags(self) -> str:
        return ("p" if self.to_channels else "") + ("g" if self.to_global else "") + ("d" if self.deleted else "")


@dataclass(slots=True)
class Published:
    """What became of a batch: its first ``done`` events are published, ``repeats`` of them before."""

    done: int = 0
    repeats: int = 0
    refused: dict[int, str] = field(default_factory=dict)
    """Place in the batch -> reason, for events that cannot be published for their own sake. Nothing after
    the first of them is published."""


class Publisher:
    """Appends events to the Streams and sends them on the channels, in order.

    The Streams' entry ids only rise, so an event that was published before is refused by Redis itself:
    it counts as done and no subscriber hears it twice. One event is one atomic step.
    """

    def __init__(self, client: Redis, keys: Keys) -> None:
        self.client = client
        self.keys = keys
        self._kept = Kept(client)

    def publish(self, events: Iterable[Outgoing]) -> Published:
        """Publishes ``events``, in the order of their ``stream_id``, until one is refused.

        The next events are taken from the iterable while Redis works on those before, so making them
        there costs little time. Raises PublishOutage.
        """
        result = Published()
        tried = 0
        calls = _calls(events)
        call = next(calls, None)
        while call:
            tried += len(call)
            check_only = bool(result.refused)
            try:
                connection = self._send(call, check_only)
                following = next(calls, None)
                answers = self._answers(connection, call, check_only)
            except (RedisError, OSError) as error:
                if result.refused:
                    break  # checking the rest was a courtesy
                raise PublishOutage(error, result.done, tried) from error
            self._count(result, tried - len(call), answers)
            call = following
        return result

    def is_writable(self) -> bool:
        """Whether Redis takes writes now. Never raises."""
        try:
            self.client.set(PROBE, 1, px=1000)
        except (RedisError, OSError):
            return False
        return True

    def _send(self, events: Sequence[Outgoing], check_only: bool) -> Connection | None:
        """Starts a call; None when it has to be made anew because the connection was lost."""
        connection = self._kept.take()
        try:
            # Packed here, as redis-py looks at each of the many arguments first.
            packed = pack_command(("EVALSHA", _publish.digest, 1, *self._call(events, check_only)))
            connection.send_packed_command([packed])  # type: ignore[no-untyped-call]
        except RedisConnectionError:
            self._kept.give_back(connection, lost=True)
            return None
        except BaseException:
            self._kept.give_back(connection, lost=True)
            raise
        return connection

    def _answers(self, connection: Connection | None, events: Sequence[Outgoing], check_only: bool) -> list[Any]:
        """Ends a call. Where its connection was lost, or the server did not like it, it is made again: what
        it did is then answered as a repeat."""
        if connection is None:
            return self._run(events, check_only)
        lost = True
        try:
            answers: list[Any] = connection.read_response()
            lost = False
            return answers
        except ResponseError:
            lost = False
        except RedisConnectionError:
            pass
        finally:
            self._kept.give_back(connection, lost=lost)
        return self._run(events, check_only)

    def _run(self, events: Sequence[Outgoing], check_only: bool) -> list[Any]:
        try:
            key, *arguments = self._call(events, check_only)
            answers: list[Any] = _publish.run(self.client, [key], arguments)
            return answers
        except ResponseError as error:
            if not _is_about_events(error):
                raise
            if len(events) == 1:
                return [str(error)]
        # An answer we do not know: one event at a time shows whose it is.
        answers = []
        for event in events:
            answers += self._run([event], check_only or any(isinstance(answer, str) for answer in answers))
        return answers

    def _call(self, events: Sequence[Outgoing], check_only: bool) -> list[Any]:
        """Key and arguments of one call of the script."""
        keys = self.keys
        call: list[Any] = [keys.all_stream, keys.prefix, keys.global_channel, ALL_ENTRIES, STREAM_LIFE]
        call.append("check" if check_only else "publish")
        for event in events:
            output = event.output.arguments() if event.output else ()
            call += (
                event.stream_id, event.event_id, event.session_id, event.seq, event.event_name, event.keep,
                event.flags, event.message, len(output), *output,
            )  # fmt: skip
        return call

    def _count(self, result: Published, start: int, answers: list[Any]) -> None:
        for place, answer in enumerate(answers, start):
            if isinstance(answer, int):
                if answer >= 0:
                    result.done += 1
                    result.repeats += answer == 0
            else:
                result.refused[place] = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer


def _is_about_events(error: ResponseError) -> bool:
    """Only the plain code can be an event's fault; READONLY, OOM, NOPERM and the like are the server's state,
    WRONGTYPE is the Stream of all events."""
    code = getattr(error, "status_code", None) or str(error).partition(" ")[0]
    return code == "ERR" or not code.isupper()


def _calls(events: Iterable[Outgoing]) -> Iterator[Sequence[Outgoing]]:
    call: list[Outgoing] = []
    size = 0
    for event in events:
        if call and (len(call) >= CALL_EVENTS or size + event.size > CALL_BYTES):
            yield call
            call, size = [], 0
        call.append(event)
        size += event.size
    if call:
        yield call
