"""A plain Celery producer that waits for no answer, and messages pushed into the queues by hand."""

from __future__ import annotations

import json
import random
import threading
from typing import Any
from uuid import uuid4

import redis
from celery import Celery
from kombu.exceptions import KombuError

from tests.chaos.driver.journal import Journal, Sent
from tests.support.letters import raw_message
from workers.celery_config import MEDIUM, PRIORITY_STEPS

REFUSED = (KombuError, redis.RedisError, OSError)


def write_to(home: str, choice: random.Random, entry: Sent) -> tuple[str, dict[str, Any]]:
    """One write that a live session never refuses, whatever came before it."""
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("session.append_output", {"content": f"{entry.mark}\n"}),
        ("session.emit_event", {"type": "told", "payload": {"mark": entry.mark}}),
        ("session.update_metrics", {"metrics": {"told": 1}}),
        ("session.update", {"metadata": {"last": entry.mark}}),
    ]
    name, arguments = choice.choice(kinds)
    return name, {"session_id": home, "actor": entry.mark, **arguments}


def _for_nobody(task_id: str, raw: bytes) -> tuple[str, bytes]:
    message = json.loads(raw)
    message["headers"]["ignore_result"] = True
    return task_id, json.dumps(message).encode()


BACKLOG = 200
"""Messages waiting beyond which the producer waits too: faults are to be tested, not a machine that is too slow."""


class Producer(threading.Thread):
    """Sends ``rate`` messages a second to the ``homes``, with ``ignore_result``; half of them have no key."""

    def __init__(
        self, broker: redis.Redis, broker_url: str, homes: list[str], journal: Journal, seed: int, rate: float
    ):
        super().__init__(name="producer", daemon=True)
        self.failure: BaseException | None = None
        self._broker = broker
        self._homes = homes
        self._journal = journal
        self._random = random.Random(f"{seed}/producer")
        self._pause = 1 / rate
        self._over = threading.Event()
        self._app = Celery("another-service", broker=broker_url, set_as_current=False)
        self._app.conf.update(
            task_publish_retry=False,
            broker_transport_options={
                "socket_timeout": 2,
                "socket_connect_timeout": 2,
                "priority_steps": PRIORITY_STEPS,
            },
        )

    def finish(self) -> None:
        self._over.set()

    def run(self) -> None:
        try:
            while not self._over.wait(self._pause):
                if not self._is_behind():
                    self._send()
        except BaseException as error:  # noqa: BLE001 - shown in the report
            self.failure = error
        finally:
            self._app.close()

    def _is_behind(self) -> bool:
        try:
            return self._broker.llen(f"sessions\x06\x16{MEDIUM}") > BACKLOG
        except redis.RedisError:
            return False

    def _send(self) -> None:
        task_id = str(uuid4())
        keyed = self._random.random() < 0.5
        entry = self._journal.open("raw", None if keyed else task_id)
        entry.name, kwargs = write_to(self._random.choice(self._homes), self._random, entry)
        if keyed:
            kwargs["idempotency_key"] = entry.key
        entry.task_id, entry.tries = task_id, 1
        try:
            self._app.send_task(
                entry.name,
                kwargs=kwargs,
                task_id=task_id,
                queue="sessions",
                priority=MEDIUM,
                ignore_result=True,
                retry=False,
            )
        except REFUSED as error:
            entry.settle("unknown", str(error))
        else:
            entry.settle("accepted")


class Hands:
    """Messages put into the queue of the sessions past every client: copies, old ones again, malformed ones."""

    def __init__(self, broker: redis.Redis, homes: list[str], journal: Journal, choice: random.Random) -> None:
        self._broker = broker
        self._homes = homes
        self._journal = journal
        self._random = choice
        self._old: list[bytes] = []
        self.malformed = 0

    def copies(self, messages: int, most: int) -> int:
        """New messages, each 2 to ``most`` times, all in any order; how many lie there now."""
        heap: list[bytes] = []
        entries = []
        for _ in range(messages):
            entry = self._journal.open("raw copies")
            entry.name, kwargs = write_to(self._random.choice(self._homes), self._random, entry)
            entry.copies = self._random.randint(2, most)
            entry.task_id, raw = _for_nobody(*raw_message(entry.name, **kwargs))
            entry.key, entry.tries = entry.task_id, 1
            heap += [raw] * entry.copies
            entries.append((entry, raw))
        self._random.shuffle(heap)
        self._push(heap, [entry for entry, _ in entries])
        self._old = (self._old + [raw for _, raw in entries])[-200:]
        return len(heap)

    def old_ones(self, most: int) -> int:
        """Messages of before once more, in another order."""
        again = self._random.sample(self._old, min(most, len(self._old)))
        self._push(again, [])
        return len(again)

    def nonsense(self, shapes: list[bytes]) -> int:
        """Malformed ones; how many."""
        self._push(shapes, [])
        self.malformed += len(shapes)
        return len(shapes)

    def _push(self, messages: list[bytes], entries: list[Sent]) -> None:
        if not messages:
            return
        try:
            self._broker.lpush("sessions", *messages)
        except redis.RedisError as error:
            for entry in entries:
                entry.settle("unknown", str(error))
        else:
            for entry in entries:
                entry.settle("accepted")
