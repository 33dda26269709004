"""Rings for publishers that know no bells: plain Celery producers, other languages, a stock worker's retries. And for
messages that were not rung for since a consumer would soon be back, when it is not.

Without it their messages wait until an idle consumer looks by itself, one ``brpop_timeout`` (1 s) at most. One
ringer is enough for a deployment, several do no harm, and losing all of them costs that second, never a message.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import redis
from kombu.transport.redis import PRIORITY_STEPS, Channel

from broker import names
from broker.scripts import RING

log = logging.getLogger(__name__)

EVERY = 0.01
"""Seconds between two looks: under 2 % of a core, and 5 ms on average until an idle worker starts."""

REST = 1.0
"""Seconds between two looks at a server that does not answer."""


class Ringer:
    """Looks after ``queues`` on the server of ``client``, which should have a socket timeout.

    ``steps``: the consumers' ``priority_steps``; ``prefix``: their ``global_keyprefix``.
    """

    def __init__(
        self,
        client: redis.Redis,
        queues: Sequence[str],
        *,
        steps: Sequence[int] = tuple(PRIORITY_STEPS),
        prefix: str = "",
        every: float = EVERY,
    ) -> None:
        self._client = client
        self._every = every
        lists = [f"{queue}{Channel.sep}{step}" if step else queue for queue in queues for step in steps]
        self._keys = [prefix + key for key in (*map(names.bell, queues), *lists, *map(names.busy, queues))]
        self._args = [len(queues), len(steps), names.BELL_LIFE_MS]

    def look(self) -> int:
        """Rings where messages wait without a bell; how many bells. Raises what the server raises."""
        return int(RING(self._client, self._keys, self._args))

    def run(self, stop: threading.Event) -> None:
        """Looks every few milliseconds until ``stop``; a server that is away is waited for."""
        away = False
        while not stop.wait(REST if away else self._every):
            try:
                self.look()
            except (redis.RedisError, OSError) as error:
                if not away:
                    log.warning("bells are not rung: %s", error)
                away = True
            else:
                away = False
