"""Nothing is lost and nothing doubled on the way to subscribers (AT-D3, AT-D4, AT-D12)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from sqlalchemy import text

from sessions import outbox
from tests.conftest import PrivateFleet
from tests.support.outbox import Listener, LocalWorker, everything_arrives, in_order
from tests.support.running import RunningFleet
from tests.support.waiting import eventually
from workers.embedded import EmbeddedValkey

ROOT = Path(__file__).resolve().parents[2]
KILLS, RELAY_KILLS = 50, 25


def outbox_pending(fleet: RunningFleet) -> int:
    with fleet.engine.connect() as db:
        return outbox.pending(db, outbox.load_cursor(db))


def test_events_wait_while_the_cache_redis_is_away(private_fleet: PrivateFleet, tmp_path: Path) -> None:
    """AT-D3: broker and cache are two servers here, and only the cache goes."""
    cache = EmbeddedValkey(tmp_path)
    cache.start()
    try:
        fleet = private_fleet(sessions=1, relay=1, FLEET_CACHE_URL=f"{cache.url}/0")
        session_id = fleet.call("session.create", status="active")["id"]
        eventually(lambda: outbox_pending(fleet) == 0)
        cache.stop()
        handles = [
            fleet.client.submit("session.update", session_id=session_id, metadata={"number": number})
            for number in range(100)
        ]
        assert [handle.result(60)["changed"] for handle in handles] == [True] * 100
        assert outbox_pending(fleet) == 100, "nothing goes out meanwhile"
        with fleet.engine.connect() as db:
            before = db.execute(text("SELECT count(*) FROM session_events")).scalar_one()
        cache.start()
        with Listener(fleet.cache, "events:session") as listener:
            envelopes = everything_arrives(fleet)
            assert len(envelopes) == before
            eventually(lambda: outbox_pending(fleet) == 0)
            heard = [envelope["event_id"] for envelope in listener.on("events:session")]
        assert len(heard) == len(set(heard))
    finally:
        cache.stop()


KILLED_AFTER_COMMIT = """
import os, signal, sys
import tasks.unit_of_work
from tests.support.outbox import LocalWorker
from types import SimpleNamespace
from workers.settings import Settings

tasks.unit_of_work.publish = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
fleet = SimpleNamespace(settings=Settings.load())
for _ in range(int(sys.argv[2])):
    child = os.fork()
    if child == 0:
        LocalWorker(fleet).emit(sys.argv[1])
        os._exit(1)  # it lived
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
        sys.exit(1)
"""


def test_a_worker_killed_between_commit_and_publish_loses_no_event(private_fleet: PrivateFleet) -> None:
    """AT-D4: 50 processes die after their commit, before cache and relay hear of it."""
    fleet = private_fleet(sessions=0, relay=1)
    worker = LocalWorker(fleet)
    session_id = worker.create()
    worker.close()
    with script(fleet, KILLED_AFTER_COMMIT, session_id, str(KILLS)) as killing:
        output, _ = killing.communicate(timeout=120)
    assert killing.returncode == 0, output
    envelopes = everything_arrives(fleet)
    assert [envelope["seq"] for envelope in envelopes] == list(range(1, KILLS + 2))
    # The cached document is from before the events: nobody gets to see it.
    assert LocalWorker(fleet).runtime.cache.get(session_id) is None


KILLED_ANYWHERE = """
import os, random, signal, sys, threading
from sqlalchemy import create_engine, text
from workers.relay import build_relay
from workers.settings import Settings

def published():
    with create_engine(settings.database_url).begin() as db:
        db.execute(text("UPDATE leader_leases SET expires_at = '-infinity'"))  # as if the lease had run out
        return db.execute(text("SELECT max(high_id) FROM relay_cursors")).scalar()

settings, moments = Settings.load(), random.Random(4)
life, before, got_somewhere = 0.1, published(), 0
for _ in range(int(sys.argv[1])):
    child = os.fork()
    if child == 0:
        signal.setitimer(signal.ITIMER_REAL, moments.uniform(0.2, 1.2) * life)  # SIGALRM ends it wherever it is
        build_relay(settings).run(threading.Event())
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) != -signal.SIGALRM:
        sys.exit(1)
    moments.random()
    now = published()
    # On a busy machine lives are longer, so that about half of them end before they saved anything.
    got_somewhere, life = (got_somewhere, life * 1.4) if now == before else (got_somewhere + 1, life * 0.9)
    before = now
print(got_somewhere)
"""


def test_a_relay_killed_over_and_over_loses_and_repeats_nothing(private_fleet: PrivateFleet) -> None:
    """AT-D4 for the relay: it dies 25 times anywhere in reading, publishing and saving."""
    fleet = private_fleet(sessions=0, relay=0)
    worker = LocalWorker(fleet)
    sessions = [worker.create() for _ in range(8)]
    with Listener(fleet.cache, "events:session") as listener:
        with script(fleet, KILLED_ANYWHERE, str(RELAY_KILLS)) as killing:
            while killing.poll() is None:
                for session_id in sessions:
                    worker.emit(session_id)
            output, _ = killing.communicate()
            assert killing.returncode == 0, output
        worker.close()
        eventually(lambda: len(listener.messages) >= int(output))
        fleet.start("relay")
        envelopes = everything_arrives(fleet)
        eventually(lambda: len(listener.messages) == len(envelopes))
        in_order([envelope for _, envelope in listener.messages])
    assert RELAY_KILLS / 5 < int(output) < RELAY_KILLS  # some got somewhere before they died, some did not


def script(fleet: RunningFleet, code: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python process on this fleet's servers."""
    environ = fleet.env | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "client")])}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(
        command, env=environ, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_channels_and_streams_use_the_prefix_and_are_bounded(private_fleet: PrivateFleet) -> None:
    """AT-D12."""
    fleet = private_fleet(sessions=1, relay=1, FLEET_CHANNEL_PREFIX="team7:", FLEET_GLOBAL_CHANNEL="everywhere")
    with Listener(fleet.cache, "team7:*") as listener:
        session_id = fleet.call("session.create", status="active")["id"]
        fleet.call("session.pause", session_id=session_id)
        fleet.call("session.terminate", session_id=session_id)
        eventually(lambda: len(listener.on("team7:everywhere")) == 2)
        assert {name for name, _ in listener.messages} == {
            "team7:events:session",
            f"team7:session:{session_id}",
            "team7:everywhere",
        }
        names = [envelope["event_name"] for envelope in listener.on(f"team7:session:{session_id}")]
        assert names[0] == "session.created"
        assert names[-1] == "session.terminated"
        assert "session.paused" in names
        told = [envelope["event_name"] for envelope in listener.on("team7:everywhere")]
        assert told == ["session.created", "session.terminated"]
    with fleet.engine.begin() as db:
        db.execute(
            text("""
                INSERT INTO session_events
                    (session_id, seq, created_at, event_id, event_name, event_type, payload, metadata, entity_ids)
                SELECT md5((n % 100)::text)::uuid, n / 100 + 1, now(), gen_random_uuid(), 'bulk', 'bulk',
                    '{}', '{}', '{}'
                FROM generate_series(0, 119999) AS n
            """)
        )
    eventually(lambda: outbox_pending(fleet) == 0, every=1)  # to count so many rows is work
    assert 100_000 <= fleet.cache.xlen("team7:stream:events") < 101_000
    assert 1000 <= fleet.cache.xlen(f"team7:stream:session:{_first_bulk_session(fleet)}") < 1200
    with fleet.engine.connect() as db:
        assert db.execute(text("SELECT count(*) FROM session_events WHERE event_name = 'bulk'")).scalar() == 120_000


def _first_bulk_session(fleet: RunningFleet) -> str:
    with fleet.engine.connect() as db:
        return str(db.execute(text("SELECT md5('0')::uuid")).scalar_one())
