"""Reading the log of all sessions: complete, in commit order, by index (row D-14)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from sessionfleet.errors import ValidationFailed
from sessionfleet.messages.event_delivery import ReplayEvents
from sessionfleet.messages.events import EmitEvent
from sessions import event_replay
from sessions.emission import emit_event
from tasks.unit_of_work import transaction
from tests.support.outbox import LocalWorker, horizon_passes
from tests.support.running import RunningFleet

WRITE = text("""
    INSERT INTO session_events
        (session_id, seq, created_at, event_id, event_name, event_type, payload, metadata, entity_ids)
    SELECT md5((n % 10)::text)::uuid, :seq + n, :at + make_interval(secs => n * :apart), gen_random_uuid(),
        CASE n % 2 WHEN 0 THEN 'even' ELSE 'odd' END, 'bulk', '{}', '{}', '{}'
    FROM generate_series(0, :count - 1) AS n
""")


def write(fleet: RunningFleet, count: int, ago: timedelta, apart: float, seq: int = 1) -> None:
    """Events from ``ago`` on, ``apart`` seconds from one to the next, in one transaction."""
    at = datetime.now(UTC) - ago
    with fleet.engine.begin() as db:
        for edge in (at, at + timedelta(seconds=count * apart)):
            db.execute(text("SELECT fleet_ensure_month('session_events', :at)"), {"at": edge})
        db.execute(WRITE, {"seq": seq, "at": at, "count": count, "apart": apart})
    horizon_passes(fleet)


def pages(worker: LocalWorker, **arguments: Any) -> list[list[dict[str, Any]]]:
    found, cursor = [], None
    while True:
        answer = worker.call("event.replay", cursor=cursor, **arguments)
        found.append(answer["items"])
        cursor = answer["next_cursor"]
        if cursor is None:
            return found


def test_the_last_hour_comes_in_pages_of_1000(worker: LocalWorker, fanout_fleet: RunningFleet) -> None:
    """AT-D8, third part: 2500 events are 3 pages, those of before are none."""
    write(fanout_fleet, 300, timedelta(hours=3), 1)
    write(fanout_fleet, 2500, timedelta(minutes=50), 1, seq=1000)
    since = datetime.now(UTC) - timedelta(hours=1)
    found = pages(worker, since=since)
    assert [len(page) for page in found] == [1000, 1000, 500]
    everything = [one for page in found for one in page]
    assert len({one["event_id"] for one in everything}) == 2500
    assert [one["seq"] for one in everything] == list(range(1000, 3500))
    with fanout_fleet.engine.connect() as db:
        [stored] = db.execute(text("SELECT event_id::text FROM session_events WHERE seq = 1000")).scalars()
    assert everything[0]["event_id"] == stored
    assert len([one for page in pages(worker, limit=700) for one in page]) == 2800


def test_filters(worker: LocalWorker, fanout_fleet: RunningFleet) -> None:
    write(fanout_fleet, 200, timedelta(minutes=10), 1)
    session_id = "cfcd2084-95d5-65ef-66e7-dff9f98764da"  # md5 of 0
    [page] = pages(worker, types=["odd"])
    assert {one["event_name"] for one in page} == {"odd"}
    assert len(page) == 100
    [page] = pages(worker, session_ids=[session_id], types=["even"])
    assert [one["seq"] for one in page] == list(range(1, 201, 10))
    middle = datetime.now(UTC) - timedelta(minutes=10) + timedelta(seconds=100)
    [before], [after] = pages(worker, until=middle), pages(worker, since=middle)
    assert len(before) + len(after) == 200
    assert max(one["timestamp"] for one in before) < min(one["timestamp"] for one in after)
    assert pages(worker, since=datetime.now(UTC)) == [[]]
    for offset in (0, 14):  # what lies before the first instant of all, in any zone
        since = datetime.min.replace(tzinfo=timezone(timedelta(hours=offset)))
        assert len([one for page in pages(worker, since=since) for one in page]) == 200


def test_a_reader_that_follows_misses_nothing_that_commits_late(
    worker: LocalWorker, fanout_fleet: RunningFleet
) -> None:
    """An event that was written first and commits last comes behind the cursor all the same."""
    slow, quick = worker.create(), worker.create()
    horizon_passes(fanout_fleet)
    seen = worker.call("event.replay")
    assert [one["session_id"] for one in seen["items"]] == [slow, quick]
    assert seen["next_cursor"] is None
    with transaction(worker.runtime) as work:
        work.apply([slow], emit_event, EmitEvent(session_id=slow, type="late"))
        worker.emit(quick)
        held = worker.call("event.replay", cursor=seen["cursor"])
        # What is committed is held back, so that nothing can come before it, and the answer says that there is more.
        assert (held["items"], held["next_cursor"]) == ([], seen["cursor"])
    horizon_passes(fanout_fleet)
    answer = worker.call("event.replay", cursor=held["cursor"])
    assert {one["session_id"] for one in answer["items"]} == {slow, quick}
    assert worker.call("event.replay", cursor=answer["cursor"])["items"] == []


def test_a_restored_database_reads_its_past_first(worker: LocalWorker, fanout_fleet: RunningFleet) -> None:
    """Stamps of a dump are above those of what is written from now on; the relay's floor tells them apart."""
    session_id = worker.create()
    for _ in range(5):
        worker.emit(session_id)
    with fanout_fleet.engine.begin() as db:
        db.execute(text("UPDATE session_events SET xid = '9000000000000'"))
        db.execute(text("INSERT INTO relay_cursors VALUES ('relay', '0', 6, 6, 6, 2, now())"))
    for _ in range(3):
        worker.emit(session_id)
    horizon_passes(fanout_fleet)
    for since in (None, datetime.now(UTC) - timedelta(hours=1)):
        found = pages(worker, limit=4, since=since)
        assert [one["seq"] for page in found for one in page] == list(range(1, 10))


def plan_of(db: Connection, **arguments: Any) -> list[dict[str, Any]]:
    """The nodes of the plan of a page's main query, with what they really read."""
    sent: list[tuple[str, Any]] = []

    def note(*args: Any) -> None:
        sent.append((args[2], args[3]))

    event.listen(db, "before_cursor_execute", note)
    event_replay.replay(db, ReplayEvents(**arguments))
    event.remove(db, "before_cursor_execute", note)
    nodes = []
    for statement, parameters in sent:
        if "session_events" not in statement:
            continue
        explained = db.exec_driver_sql(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters).scalar()
        found = json.loads(explained) if isinstance(explained, str) else explained
        waiting = [found[0]["Plan"]]
        while waiting:
            node = waiting.pop()
            nodes.append(node)
            waiting += node.get("Plans", [])
    return nodes


@pytest.mark.parametrize("page", ["first", "second", "of a type"])
def test_a_read_of_the_last_hour_does_not_walk_the_log(
    worker: LocalWorker, fanout_fleet: RunningFleet, page: str
) -> None:
    """40,000 events of weeks, 3,000 of the last hour."""
    for week in range(4):
        write(fanout_fleet, 10_000, timedelta(days=7 * (4 - week)), 40, seq=1 + 10_000 * week)
    write(fanout_fleet, 3000, timedelta(minutes=55), 1, seq=100_000)
    with fanout_fleet.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        db.execute(text("ANALYZE session_events"))
        arguments: dict[str, Any] = {"since": datetime.now(UTC) - timedelta(hours=1)}
        if page == "second":
            arguments["cursor"] = event_replay.replay(db, ReplayEvents(**arguments)).answer["cursor"]
        if page == "of a type":
            arguments["types"] = ["odd"]
        nodes = plan_of(db, **arguments)
    scans = [node for node in nodes if node.get("Relation Name", "").startswith("session_events")]
    read = {node["Node Type"]: 0 for node in scans}
    for node in scans:
        rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        read[node["Node Type"]] += rows * node["Actual Loops"]
    assert read.pop("Seq Scan", 0) == 0, "but of months that are empty"
    assert 1000 < sum(read.values()) < 8000


@pytest.mark.parametrize("arguments", [{"limit": 1001}, {"cursor": "x"}, {"session_ids": ["x"]}, {"types": []}])
def test_what_is_refused(worker: LocalWorker, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValidationFailed):
        worker.call("event.replay", **arguments)
