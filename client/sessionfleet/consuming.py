"""What both ends of a consumer group share: names, bounds and the one step that takes events (D-11).

A group reads two Streams: that of all events and its own, to which dead letters are sent once more
so that nobody else sees them twice. Every event is with one consumer of the group at a time until it
is acknowledged; one that was taken and not acknowledged for :data:`CLAIM_SECONDS` is given to
whoever asks next. The step is a script, so claiming, counting and reading cannot be overtaken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sessionfleet.event import Event, event_in

CLAIM_SECONDS = 30
DELIVERIES = 3
"""Times an event is given out before it becomes a dead letter."""

PENDING = 100
"""Events a consumer can hold unacknowledged; it gets no more meanwhile."""

TAKE_BYTES = 8 * 1024 * 1024
"""What is taken at once, about; one event always is."""

RETRY = "retry/"
"""Begins the ids of entries in a group's own Stream."""

NOT_ACKNOWLEDGED = f"not acknowledged in {DELIVERIES} deliveries"
MALFORMED = "malformed: the entry holds no event"

TAKE = """
-- KEYS: Stream of all events, Stream of the group
-- ARGV: group, consumer, most to take, most to hold, milliseconds after which an entry is claimed, deliveries,
-- bytes after which no more are taken
-- Answers [entries, newest ids of the Streams, room]; an entry is [place of its Stream, id, number of this
-- delivery, 1 if it had all its deliveries and is only to be given up, fields].
local group, consumer, count, idle = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[5]
local most, tries = tonumber(ARGV[4]), tonumber(ARGV[6])
local room, taken, newest, bytes = most, {}, {}, tonumber(ARGV[7])

local function take(place, id, deliveries, over, fields)
  taken[#taken + 1] = {place, id, deliveries, over, fields}
  for _, part in ipairs(fields) do bytes = bytes - #part end
end

for place, stream in ipairs(KEYS) do
  redis.pcall('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
  room = room - #redis.call('XPENDING', stream, group, '-', '+', most, consumer)
end

for place, stream in ipairs(KEYS) do
  for _, late in ipairs(redis.call('XPENDING', stream, group, 'IDLE', idle, '-', '+', most)) do
    local id, mine, deliveries = late[1], late[2] == consumer, late[4]
    if #taken < count and bytes > 0 and (mine or room > 0) then
      local over, entry = deliveries >= tries, nil
      if over then
        redis.call('XCLAIM', stream, group, consumer, idle, id, 'JUSTID')
        entry = redis.call('XRANGE', stream, id, id)[1]
      else
        entry = redis.call('XCLAIM', stream, group, consumer, idle, id)[1]
        deliveries = deliveries + 1
      end
      if entry then
        take(place, id, deliveries, over and 1 or 0, entry[2])
        room = mine and room or room - 1
      else
        redis.call('XACK', stream, group, id)  -- the Stream has forgotten it
      end
    end
  end
end

for place = #KEYS, 1, -1 do
  while room > 0 and #taken < count and bytes > 0 do  -- one by one, as what is read is held
    local found = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', KEYS[place], '>')
    local entry = found and found[1] and found[1][2][1]
    if not entry then break end
    take(place, entry[1], 1, 0, entry[2])
    room = room - 1
  end
end

for place, stream in ipairs(KEYS) do
  local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  newest[place] = last and last[1] or '0-0'
end
return {taken, newest, room}
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One taken Stream entry. ``entry_id`` names it in ``ack`` and ``fail``; ``reason`` says why it is only
    to be given up, None for one that is to be handled. ``fields`` are as Redis has them."""

    entry_id: str
    deliveries: int
    event: Event | None
    reason: str | None
    fields: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Taken:
    """One answer of :data:`TAKE`. ``newest``: where to wait for more; ``room``: how many more fit."""

    entries: Sequence[Entry]
    newest: tuple[str, str]
    room: int

    @classmethod
    def of(cls, answer: Any) -> Taken:
        """From what the script answered."""
        entries, newest, room = answer
        first, second = (each.decode() for each in newest)
        return cls([_entry(*each) for each in entries], (first, second), int(room))


def streams(prefix: str, group: str) -> tuple[str, str]:
    """The Streams of a group: that of all events, and its own."""
    return f"{prefix}stream:events", f"{prefix}stream:retry:{group}"


def arguments(group: str, consumer: str, count: int) -> list[str | int]:
    """What :data:`TAKE` takes beside the Streams."""
    return [group, consumer, count, PENDING, CLAIM_SECONDS * 1000, DELIVERIES, TAKE_BYTES]


def place_of(entry_id: str) -> tuple[int, str]:
    """The Stream of an entry, 0 or 1 in :func:`streams`, and its id there."""
    own = entry_id.startswith(RETRY)
    return int(own), entry_id.removeprefix(RETRY)


def event_of(fields: Mapping[bytes, bytes]) -> Event | None:
    """The event of an entry, None when it holds none."""
    return event_in(fields.get(b"envelope", b""))


def _entry(place: int, id_: bytes, deliveries: int, over: int, flat: list[bytes]) -> Entry:
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    event = event_of(fields)
    reason = MALFORMED if event is None else NOT_ACKNOWLEDGED if over else None
    return Entry((RETRY if place > 1 else "") + id_.decode(), deliveries, event, reason, fields)
