"""How many events a second the relay alone publishes, beside what Redis takes from a bare pipeline.

Run ``python benchmarks/relay_rate.py [--events 50000] [--rounds 3] [--json]`` with the repository root and
``client`` on PYTHONPATH. Starts a private PostgreSQL (fsync and synchronous_commit on) and Valkey, writes the
events once, 100 a transaction over 1,000 sessions, then in alternating rounds:

- relay: rows from PostgreSQL to both Streams and two channels, batches of 500, cursor saved five times a second;
- bare: the same messages, already encoded, as pipelines of 100 x (XADD to two Streams, two PUBLISH), with
  neither PostgreSQL nor a check for repeats nor a look at the cache.

Medians, events per second, and CPU microseconds per event of this process, PostgreSQL and Valkey.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from redis import Redis
from sqlalchemy import Engine, text

from fanout.connection import PATIENT, connect
from fanout.keys import Keys
from fanout.publish import Outgoing, Publisher
from sessions import leadership, outbox
from sessions.outbox import Leader
from tasks.outbox_drain import Drain, outgoing
from workers.embedded import EmbeddedPostgres, EmbeddedValkey
from workers.garbage import spare
from workers.migrate import migrate
from workers.resources import build_engine
from workers.settings import Settings

WRITE = text("""
    INSERT INTO session_events
        (session_id, seq, created_at, event_id, event_name, event_type, actor, payload, metadata, entity_ids)
    SELECT md5((n % 1000)::text)::uuid, n / 1000 + 1, now(), gen_random_uuid(), 'session.updated',
        'session.updated', 'agent-1', jsonb_build_object('agent_id', 'agent-1', 'status', 'active',
        'updates', jsonb_build_array('context'), 'reason', repeat('x', 60)), '{"state_version": 7}', '{}'
    FROM generate_series(CAST(:first AS int), :first + 99) AS n
""")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="relay-rate-"))
    home.chmod(0o755)
    postgres, valkey = EmbeddedPostgres(home), EmbeddedValkey(home)
    try:
        postgres.start()
        valkey.start()
        settings = Settings.load({}, database_url=postgres.url, redis_url=f"{valkey.url}/0")
        migrate(settings)
        servers = {"postgres": postgres.process.pid, "valkey": valkey.process.pid}  # type: ignore[union-attr]
        found = measure(settings, wanted.events, wanted.rounds, servers)
    finally:
        valkey.stop()
        postgres.remove()
        shutil.rmtree(home, ignore_errors=True)
    if wanted.json:
        print(json.dumps(found))
        return
    print(f"{wanted.events} events, {found['message_bytes']} bytes a message, medians of {wanted.rounds} rounds")
    for name in ("relay", "bare"):
        row = found[name]
        cpu = ", ".join(f"{part} {used:.1f}" for part, used in row["cpu_us"].items())
        print(f"{name:6} {row['events_per_s']:>9,.0f} events/s   CPU us per event: {cpu}")
    print(f"relay / bare: {found['relay']['events_per_s'] / found['bare']['events_per_s']:.2f}")


def measure(settings: Settings, events: int, rounds: int, servers: dict[str, int]) -> dict[str, Any]:
    engine = build_engine(settings, name="relay-rate")
    client = connect(settings.cache_url, name="relay-rate", timeout=PATIENT)
    for first in range(0, events, 100):
        with engine.begin() as db:
            db.execute(WRITE, {"first": first})
    with engine.connect() as db:
        entries = outbox.read_batch(db, outbox.load_cursor(db)).entries
    sample = [outgoing(entry) for entry in entries]
    spare()  # as the relay's process does
    timings: dict[str, list[dict[str, Any]]] = {"relay": [], "bare": []}
    for _ in range(rounds):
        for name, run in (("relay", relay), ("bare", bare)):
            client.flushdb()
            before, started = cpu(servers), time.perf_counter()
            done = run(engine, client, sample, events)
            took = time.perf_counter() - started
            used = {part: (value - before[part]) / done * 1e6 for part, value in cpu(servers).items()}
            timings[name].append({"events_per_s": done / took, "cpu_us": used})
    found: dict[str, Any] = {"message_bytes": len(sample[0].message)}
    for name, each in timings.items():
        parts = {part: statistics.median(one["cpu_us"][part] for one in each) for part in each[0]["cpu_us"]}
        found[name] = {"events_per_s": statistics.median(one["events_per_s"] for one in each), "cpu_us": parts}
    return found


def relay(engine: Engine, client: Redis, _: list[Outgoing], events: int) -> int:
    """The relay's own loop over the whole outbox."""
    with engine.begin() as db:
        db.execute(text("DELETE FROM relay_cursors"))
        epoch = leadership.take(db, outbox.NAME, "benchmark", 3600)
        epoch = epoch or db.execute(text("SELECT epoch FROM leader_leases")).scalar_one()
    done = 0
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        drain = Drain(db, Publisher(client, Keys()), Leader("benchmark", epoch))
        drain.begin()
        while (step := drain.step()).published:
            done += step.published
        drain.save()
    if done != events:
        raise SystemExit(f"published {done} of {events} events")
    return done


def bare(_: Engine, client: Redis, sample: list[Outgoing], events: int) -> int:
    """What redis-py and Valkey do with the same bytes and nothing else."""
    for first in range(0, events, 100):
        with client.pipeline(transaction=False) as pipe:
            for number in range(first, first + 100):
                event = sample[number % len(sample)]
                fields: Any = {"envelope": event.message, "event_id": event.event_id}
                fields |= {"session_id": event.session_id, "seq": event.seq, "event_name": event.event_name}
                entry = f"{number + 1}-1"
                pipe.xadd("stream:events", fields, id=entry, maxlen=100_000)
                pipe.xadd(f"stream:session:{event.session_id}", fields, id=entry, maxlen=1000)
                pipe.publish("events:session", event.message)
                pipe.publish(f"session:{event.session_id}", event.message)
            pipe.execute()
    return events


def cpu(servers: dict[str, int]) -> dict[str, float]:
    """CPU seconds so far of this process and of each server with its children."""
    used = {"relay": sum(psutil.Process().cpu_times()[:2])}
    for name, pid in servers.items():
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        used[name] = sum(sum(one.cpu_times()[:2]) for one in family if one.is_running())
    return used


if __name__ == "__main__":
    main()
