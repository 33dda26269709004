"""Consumer groups on the Stream of all events (rows D-11, D-12, D-18)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis

from fanout.envelope import encode
from fanout.keys import Keys
from fanout.script import Script
from sessionfleet import consuming
from sessionfleet.consuming import CLAIM_SECONDS, Taken
from sessionfleet.words import CONSUMER_GROUPS

GONE_SECONDS = 300
"""A consumer that holds nothing and has not asked for so long is removed."""

RETRIES = 10_000
"""Entries a group's own Stream keeps, about."""

MARKER_SECONDS = 86_400

_take = Script("take", consuming.TAKE)
_keep = Script("keep_group")
_put_back = Script("put_back")
_requeue = Script("requeue")


@dataclass(frozen=True, slots=True)
class Held:
    """An entry a consumer holds: how often it was given out, its fields (None: the Stream has forgotten it)."""

    deliveries: int
    fields: Mapping[bytes, bytes] | None


class Groups:
    """The groups of one fleet. All methods raise what redis-py raises."""

    def __init__(self, client: Redis, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def keep(self, gone_seconds: float = GONE_SECONDS) -> int:
        """Makes every group that is missing, also after a FLUSHALL, and removes consumers that are gone;
        answers how many. A new group begins with the oldest entry of the Stream, so it misses nothing."""
        calls = [(self._streams(group), [group, int(gone_seconds * 1000)]) for group in CONSUMER_GROUPS]
        return sum(_keep.run_many(self.client, calls))

    def take(self, group: str, consumer: str, count: int) -> Taken:
        """Up to ``count`` entries for a consumer: first what others, or itself, did not acknowledge in time."""
        arguments = consuming.arguments(group, consumer, count)
        return Taken.of(_take.run(self.client, self._streams(group), arguments))

    def acknowledge(self, group: str, entry_ids: Sequence[str]) -> int:
        """Ends entries for a group; answers how many were pending. Those of its own Stream are removed."""
        acknowledged = 0
        places = [consuming.place_of(entry_id) for entry_id in entry_ids]
        for place, stream in enumerate(self._streams(group)):
            ids = [id_ for its_place, id_ in places if its_place == place]
            if ids:
                acknowledged += self.client.xack(stream, group, *ids)
                if place:
                    self.client.xdel(stream, *ids)
        return acknowledged

    def held(self, group: str, consumer: str, entry_id: str) -> Held | None:
        """An entry, if this consumer holds it."""
        place, id_ = consuming.place_of(entry_id)
        stream = self._streams(group)[place]
        found: Any = self.client.xpending_range(stream, group, min=id_, max=id_, count=1)
        if not found or found[0]["consumer"].decode() != consumer:
            return None
        entries: Any = self.client.xrange(stream, min=id_, max=id_)
        return Held(found[0]["times_delivered"], entries[0][1] if entries else None)

    def put_back(self, group: str, consumer: str, entry_id: str, pause: float) -> bool:
        """Gives an entry that this consumer holds to whoever asks after ``pause`` seconds."""
        place, id_ = consuming.place_of(entry_id)
        idle = int((CLAIM_SECONDS - pause) * 1000)
        return bool(_put_back.run(self.client, [self._streams(group)[place]], [group, consumer, id_, idle]))

    def requeue(self, letter_id: int, group: str | None, envelope: Mapping[str, Any]) -> bool:
        """Gives an event once more to one group, or to all; False when that was done for this letter within
        MARKER_SECONDS."""
        streams = [self._streams(each)[1] for each in ([group] if group else CONSUMER_GROUPS)]
        event = {
            "envelope": encode(envelope),
            **{name: envelope.get(name, "") for name in ("event_id", "session_id", "seq", "event_name")},
        }
        fields = [part for pair in event.items() for part in pair]
        marker = f"{self.keys.prefix}event:requeued:{letter_id}"
        return bool(_requeue.run(self.client, [marker, *streams], [MARKER_SECONDS, RETRIES, *fields]))

    def _streams(self, group: str) -> tuple[str, str]:
        return consuming.streams(self.keys.prefix, group)
