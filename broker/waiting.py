"""Collected messages that cannot run yet, because somebody holds what they need.

They keep neither their worker nor their neighbours waiting: the consumer keeps them, unacknowledged like any other,
and hands them over again from time to time, in their order. What comes later and shares a name with one of them waits
behind it. Like Celery's messages with an ``eta`` they do not count for the prefetch limit. If the consumer dies or
stops they go back to their queue with everything else it has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from broker.collecting import Call

AGAIN = 0.1
"""Seconds between two tries, at least."""

SHARE = 20
"""So many times what a try took passes until the next one: a thousand messages cost a worker no more than one."""

LONGEST = 30.0
"""Seconds after which a call that somebody waits for is overdue: answered with an error if it had to wait again."""

MOST = 1000
"""Messages beyond which those that somebody waits for are overdue at once and others count for the prefetch limit."""


class Waiting:
    """Those of one consumer that has an event loop. Not thread-safe: it belongs to that loop."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._calls: list[Call] = []
        self._since: dict[str, float] = {}
        """Since when each waits, by delivery tag and the monotonic clock."""
        self._timer: Any = None
        self._uncounted = 0
        """How many of them the prefetch limit has been raised by."""
        self.names: set[str] = set()
        """What they are known by, and what they wait for."""

    def add(
        self, calls: Sequence[Call], names: Mapping[str, frozenset[str]], again: Callable[[], None], took: float
    ) -> None:
        """Keep ``calls``, whose ``names`` are by task id, behind those that are there; the loop calls ``again`` when
        it is time to :meth:`take` all. ``took``: seconds of the last try."""
        now = monotonic()
        for call in calls:
            self._since.setdefault(call.message.delivery_tag, now)
            self.names |= names[call.task_id]
        self._calls += calls
        self._count(min(len(self._calls), MOST))
        if self._timer is None:
            self._timer = self._consumer.hub.call_later(max(AGAIN, SHARE * took), again)

    def take(self) -> tuple[list[Call], set[str]]:
        """All of them, in order, and the task ids of those that are overdue; none is left."""
        calls, now = self._calls, monotonic()
        self._since = {tag: self._since[tag] for tag in (call.message.delivery_tag for call in calls)}
        overdue = {
            call.task_id
            for place, (call, since) in enumerate(zip(calls, self._since.values(), strict=True))
            if not call.ignore_result and (place >= MOST or now - since > LONGEST)
        }
        self.drop()
        return calls, overdue

    def drop(self) -> None:
        """Forget all of them."""
        self._calls, self.names = [], set()
        self._count(0)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _count(self, messages: int) -> None:
        more, self._uncounted = messages - self._uncounted, messages
        if more > 0:
            self._consumer.qos.increment_eventually(more)
        elif more < 0:
            self._consumer.qos.decrement_eventually(-more)
