"""LangGraph's PostgresSaver in the caller's process: a checkpoint of about 1 KB on any of many threads."""

from __future__ import annotations

import random
import time

from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.postgres import PostgresSaver

from benchmarks.bench.peers.places import peers_database
from benchmarks.bench.protocol import Answer, Job, Run

NOTE = "x" * 900


def prepare() -> None:
    """Its tables."""
    with PostgresSaver.from_conn_string(peers_database()) as saver:
        saver.setup()


def drive(job: Job) -> Answer:
    with PostgresSaver.from_conn_string(peers_database()) as saver:
        run = Run(job)
        while run.more():
            started = time.perf_counter()
            config = {"configurable": {"thread_id": random.choice(job["ids"]), "checkpoint_ns": ""}}
            checkpoint = empty_checkpoint()
            checkpoint["channel_values"] = {"step": random.randrange(1_000_000), "note": NOTE}
            checkpoint["channel_versions"] = {"step": checkpoint["id"]}
            saved = saver.put(config, checkpoint, {"source": "loop", "step": 1}, {"step": checkpoint["id"]})
            if job["shape"] == "writes":
                saver.put_writes(saved, [("step", {"step": 1})], checkpoint["id"])
            run.note(started)
        return run.answer()
