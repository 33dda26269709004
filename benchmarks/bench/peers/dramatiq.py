"""dramatiq with Redis as broker and for results; psycopg2 and a prepared statement per thread."""

from __future__ import annotations

import json
import random
import threading
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.bench.bare import Bare
from benchmarks.bench.peers.places import BROKER, FLEET, RESULTS
from benchmarks.bench.protocol import Answer, Job, queue

broker = RedisBroker(url=BROKER)
broker.add_middleware(Results(backend=RedisBackend(url=RESULTS)))
dramatiq.set_broker(broker)
_own = threading.local()


@dramatiq.actor(store_results=True, max_retries=0)
def update(session_id: str, context: dict[str, Any]) -> dict[str, Any]:
    """One update by the bare statement."""
    if not hasattr(_own, "bare"):
        _own.bare = Bare(FLEET)
    _own.bare.one(session_id, json.dumps(context))
    return {"id": session_id, "context": context}


def drive(job: Job) -> Answer:
    def send() -> Any:
        return update.send(random.choice(job["ids"]), {"step": random.randrange(1_000_000)})

    return queue(job, send, lambda message: message.get_result(block=True, timeout=60_000))
