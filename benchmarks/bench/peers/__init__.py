"""Other ways to keep the durable state of sessions or to run durable tasks, on the same two servers.

This module is data only and needs none of them; each of the others is the adapter of one and runs in
``.fleet/peers-venv``: ``drive(job)`` makes the calls, ``prepare()`` makes tables, ``WORKERS`` are commands.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.bench.shapes import Ratio, Shape


@dataclass(frozen=True, slots=True)
class Peer:
    """One of them: what it does less than the fleet, its shapes, and the arguments of Python for its workers."""

    module: str
    distribution: str
    """As requirements/peers.txt pins it."""
    less: str
    shapes: tuple[Shape, ...]
    workers: tuple[tuple[str, ...], ...] = ()


def _name(module: str) -> str:
    return f"benchmarks.bench.peers.{module}"


_QUEUE = "state machine, validation, patch, search for a stored answer, cache, ordered events to subscribers"
_APPEND = "broker and workers, version check of the caller, audit, stored answer, cache, events to subscribers"

PEERS = (
    Peer(
        "dramatiq",
        "dramatiq",
        f"The bare statement behind a queue: no {_QUEUE}.",
        (Shape("dramatiq", "dramatiq bare statement, 2 clients x 32", "dramatiq", "", 2, 32),),
        (("-m", "dramatiq", _name("dramatiq"), "--processes", "2", "--threads", "8"),),
    ),
    Peer(
        "taskiq",
        "taskiq",
        f"The bare statement behind a Redis Stream: no {_QUEUE}.",
        (Shape("taskiq", "taskiq bare statement, 2 clients x 32", "taskiq", "", 2, 32),),
        (("-m", "taskiq", "worker", f"{_name('taskiq')}:broker", "--workers", "2", "--log-level", "ERROR"),),
    ),
    Peer(
        "procrastinate",
        "procrastinate",
        f"The bare statement behind a queue in PostgreSQL; its jobs have no results, so the caller learns only"
        f" that it is done, from the job's row: no {_QUEUE}.",
        (Shape("procrastinate", "procrastinate bare statement, 1 client x 64", "procrastinate", "", 1, 64),),
        (("-m", _name("procrastinate")),),
    ),
    Peer(
        "dbos",
        "dbos",
        f"The bare statement as the one step of a workflow: no {_QUEUE}. In place without a queue; the queue is"
        " polled every 10 ms.",
        (
            Shape("dbos", "DBOS workflow and step in place, 8 threads", "dbos", "direct", 1, 8),
            Shape("dbos-queue", "DBOS queue, 1 client x 64", "dbos", "queue", 1, 64),
        ),
    ),
    Peer(
        "langgraph",
        "langgraph-checkpoint-postgres",
        f"Appends a checkpoint of 1 KB in the caller's process: no {_APPEND}.",
        (
            Shape("langgraph", "LangGraph PostgresSaver put, in 2 processes", "langgraph", "put", 2),
            Shape("langgraph-writes", "LangGraph put and put_writes, in 2 processes", "langgraph", "writes", 2),
        ),
    ),
    Peer(
        "adk",
        "google-adk",
        f"Appends an event with a change of state in the caller's process, with its own check for stale sessions:"
        f" no {_APPEND}.",
        (Shape("adk", "google-adk append_event, in 2 processes", "adk", "", 2),),
    ),
    Peer(
        "agents",
        "openai-agents",
        f"Appends an item in the caller's process; no state at all: no {_APPEND}.",
        (Shape("agents", "openai-agents add_items, in 2 processes", "agents", "", 2),),
    ),
)

RATIOS = (
    Ratio("8 x 32 against dramatiq's bare statement", "many", "dramatiq", 3.5),
    Ratio("8 x 32 against LangGraph's put in process", "many", "langgraph", 1.0),
    Ratio("8 x 32 against taskiq's bare statement", "many", "taskiq"),
    Ratio("8 x 32 against google-adk in process", "many", "adk"),
    Ratio("8 x 32 against openai-agents in process", "many", "agents"),
)
