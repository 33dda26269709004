"""What a fetch asks for, and what its answer means."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Fetched(NamedTuple):
    """One message taken from a queue. ``tag`` is "" where it needs no acknowledgement."""

    queue: str
    tag: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Fetch:
    """One run of the fetch script for ``queues``; ``no_ack`` says for each whether its messages are just taken.

    ``start``: what the tags of its messages begin with, new for each fetch. ``waited``: it is sent together with a
    wait, and takes nothing for a consumer that has left before it ran.
    """

    queues: tuple[str, ...]
    no_ack: tuple[bool, ...]
    start: str
    limit: int = 1
    waited: bool = False

    def arguments(
        self,
        *,
        owner: str,
        strict: bool,
        largest: int,
        bell_life: int,
        steps: int,
        few: int,
        acks: Sequence[str] = (),
    ) -> list[str | int]:
        """ARGV of the script."""
        sizes = [largest, bell_life, len(self.queues), steps, int(self.waited), few, len(acks)]
        names = [json.dumps(queue) for queue in self.queues]
        return [self.limit, owner, self.start, int(strict), *sizes, *acks, *map(int, self.no_ack), *names]

    def unpack(self, answer: Sequence[bytes]) -> list[Fetched]:
        """The messages of an answer of the script."""
        found = []
        for place, (number, raw) in enumerate(zip(answer[::2], answer[1::2], strict=True), 1):
            which = int(number) - 1
            tag = "" if self.no_ack[which] else f"{self.start}{place}"
            found.append(Fetched(self.queues[which], tag, raw))
        return found
