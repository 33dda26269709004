"""Unmodified Celery: an app as its documentation shows it, with the bare statement as its task.

It does less than the fleet: no message classes, no state machine, no patch, no search for a stored answer,
no cache that refuses older documents, no relay.
"""

from __future__ import annotations

import json
import os
from typing import Any

from celery import Celery

from benchmarks.bench.bare import Bare

app = Celery("stock", broker=os.environ.get("BENCH_BROKER"), backend=os.environ.get("BENCH_RESULTS"))
_bare: list[Bare] = []


@app.task(name="stock.noop")  # type: ignore[untyped-decorator]
def noop() -> None:
    """A round trip and nothing else."""


@app.task(name="stock.update")  # type: ignore[untyped-decorator]
def update(session_id: str, context: dict[str, Any]) -> dict[str, Any]:
    """One update by the bare statement, in a transaction of its own."""
    _connection().one(session_id, json.dumps(context))
    return {"id": session_id, "context": context}


@app.task(name="stock.publish")  # type: ignore[untyped-decorator]
def publish(session_id: str, context: dict[str, Any]) -> dict[str, Any]:
    """The same operation as far as the statement goes: update, then SET, XADD and PUBLISH in one pipeline; the
    answer is the document, as ours is."""
    bare = _connection()
    written = bare.one(session_id, json.dumps(context))
    bare.publish(written)
    document: dict[str, Any] = json.loads(written[0][1])
    return document


def _connection() -> Bare:
    if not _bare:
        _bare.append(Bare(os.environ["BENCH_DATABASE"], os.environ["BENCH_CACHE"]))
    return _bare[0]
