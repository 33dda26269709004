"""Upkeep of the Streams: their newest entry, trimming by age and size, and a new generation (D-08, D-10)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import islice

from redis import Redis
from redis.exceptions import ResponseError

from fanout.keys import DOCUMENT, EXTERNAL, Keys
from fanout.publish import STREAM_LIFE

log = logging.getLogger(__name__)

MAX_BYTES = 10 * 1024**3
"""Memory the Stream of all events may take (D-10)."""

_SCAN = 1000


class Streams:
    """The Streams under one prefix. All methods raise what redis-py raises."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def newest(self) -> tuple[int, int, str] | None:
        """(xid, id, event id) of the newest entry of the Stream of all events, or None when there is none.

        Raises ResponseError (WRONGTYPE) when another kind of value holds its name.
        """
        found = self.client.xrevrange(self.keys.all_stream, count=1)
        if not found:
            return None
        entry, fields = found[0]
        xid, _, id_ = _text(entry).partition("-")
        return int(xid), int(id_), _text((fields or {}).get(b"event_id", b""))

    def trim(self, before: tuple[int, int] | None) -> int:
        """Removes entries of the Stream of all events up to an entry id, and the oldest beyond MAX_BYTES.

        Entry ids carry no time, so the caller says which entry is as old as entries may get. Removes whole
        nodes only, like every trimming here; answers how many entries went.
        """
        stream = self.keys.all_stream
        gone = 0
        if before is not None:
            gone += self.client.xtrim(stream, minid=f"{before[0]}-{before[1]}", approximate=True, limit=0)
        used = self.client.memory_usage(stream, samples=5) or 0
        if used > MAX_BYTES:
            length = self.client.xlen(stream)
            gone += self.client.xtrim(stream, maxlen=int(length * MAX_BYTES / used), approximate=True, limit=0)
        return gone

    def retire(self, generation: int) -> None:
        """Ends a generation: moves every Stream to ``...:gen{generation}`` for seven more days, so that entry
        ids may begin anew, and empties the document cache and the Streams of output, whose versions and
        numbers belong to another past.

        Safe to repeat after it was cut off. Walks all keys with SCAN.
        """
        self._move(self.keys.all_stream, generation)
        for pattern in (f"{DOCUMENT}*", f"{EXTERNAL}*", self.keys.output_stream_pattern):
            self._unlink(self._found(pattern))
        for key in self._found(self.keys.session_stream_pattern):
            if not self.keys.is_retired(key):
                self._move(key, generation)

    def _found(self, pattern: str) -> Iterator[str]:
        return (_text(key) for key in self.client.scan_iter(match=pattern, count=_SCAN))

    def _move(self, stream: str, generation: int) -> None:
        retired = self.keys.retired(stream, generation)
        try:
            if not self.client.renamenx(stream, retired):
                self.client.unlink(stream)  # cut off before, and appended to since by a relay that was late
        except ResponseError as error:
            if "no such key" not in str(error):
                raise
        else:
            self.client.expire(retired, STREAM_LIFE)

    def _unlink(self, keys: Iterable[str]) -> None:
        keys = iter(keys)
        while some := list(islice(keys, _SCAN)):
            self.client.unlink(*some)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
