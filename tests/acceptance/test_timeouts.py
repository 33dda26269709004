"""Warnings and expiry through real workers (rows E-01..E-06, E-09).

The duties look at every session of a database, so these tests have one of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from sessionfleet.errors import DeadlineExceeded, InvalidTransition, SessionExpired, SessionNotFound, ValidationFailed
from tests.support import RunningFleet, eventually
from tests.support.ageing import age, leave, remaining
from tests.support.private import private_fleets

WARNING = "session.timeout_warning"
CACHE_TTL = 2
INSTANTS = ("last_activity", "expires_at")


@pytest.fixture(scope="module")
def fleet() -> Iterator[RunningFleet]:
    with private_fleets() as make:
        yield make(maintenance=1, relay=0, FLEET_CACHE_TTL=str(CACHE_TTL))


def new(fleet: RunningFleet, **arguments: Any) -> str:
    defaults = {"status": "active", "timeout_seconds": 1800}
    return str(fleet.call("session.create", **{**defaults, **arguments})["id"])


def get(fleet: RunningFleet, session_id: str) -> Any:
    return fleet.call("session.get", session_id=session_id)


def events(fleet: RunningFleet, session_id: str, *types: str) -> list[dict[str, Any]]:
    found = fleet.call("session.get_events", session_id=session_id, types=list(types) or None)["items"]
    return list(found)


def warn(fleet: RunningFleet) -> int:
    return int(fleet.call("maintenance.timeout_warnings")["warned"])


def clean(fleet: RunningFleet) -> int:
    return int(fleet.call("maintenance.cleanup_stale")["expired"])


def in_status(fleet: RunningFleet, status: str) -> str:
    """A new session that has come to ``status``."""
    session_id = new(fleet, status="initializing" if status == "initializing" else "active")
    verbs = {"idle": "idle", "waiting_input": "wait_input", "paused": "pause", "crashed": "crash"}
    if status in verbs:
        fleet.call(f"session.{verbs[status]}", session_id=session_id)
    return session_id


def test_one_warning_per_deadline_with_the_real_rest(fleet: RunningFleet) -> None:
    """AT-E1, first part [E-04]: 280 s left, five runs, one warning; touched and late again, one more."""
    session_id = new(fleet)
    assert warn(fleet) == 0
    leave(fleet, 280, session_id)
    assert [warn(fleet) for _ in range(5)] == [1, 0, 0, 0, 0]
    [warning] = events(fleet, session_id, WARNING)
    payload = warning["payload"]
    assert payload["timeout_in_seconds"] == pytest.approx(280, abs=1)
    assert payload["threshold"] == 300
    document = get(fleet, session_id)
    assert {name: payload[name] for name in INSTANTS} == {name: document[name] for name in INSTANTS}
    assert instant(document["expires_at"]) == instant(document["last_activity"]) + timedelta(seconds=1800)
    assert warning["actor"] == "fleet"

    fleet.call("session.touch", session_id=session_id)
    assert warn(fleet) == 0
    leave(fleet, 100.5, session_id)
    assert [warn(fleet), warn(fleet)] == [1, 0]
    assert events(fleet, session_id, WARNING)[-1]["payload"]["timeout_in_seconds"] == pytest.approx(100, abs=1)


def test_all_five_live_statuses_are_warned(fleet: RunningFleet) -> None:
    """AT-E1, second part [E-04 E-09]: and no status that is not live."""
    live = [in_status(fleet, status) for status in ("initializing", "active", "idle", "waiting_input", "paused")]
    crashed = in_status(fleet, "crashed")
    leave(fleet, 280, *live, crashed)
    assert warn(fleet) == 5
    assert [len(events(fleet, session_id, WARNING)) for session_id in (*live, crashed)] == [1, 1, 1, 1, 1, 0]


def test_overdue_sessions_expire_and_fresh_ones_stay(fleet: RunningFleet) -> None:
    """AT-E2 [E-05]: 7 overdue and 5 fresh; the run returns 7, the next 0."""
    clean(fleet)
    overdue, fresh = [new(fleet) for _ in range(7)], [new(fleet) for _ in range(5)]
    age(fleet, 1801, *overdue)
    assert clean(fleet) == 7
    assert clean(fleet) == 0
    for session_id in overdue:
        document = get(fleet, session_id)
        assert (document["status"], document["end_reason"]) == ("expired", "timeout")
    [event] = events(fleet, overdue[0], "session.expired")
    last = get(fleet, overdue[0])["last_activity"]
    details = {name: event["payload"][name] for name in ("reason", "last_activity", "timeout_threshold")}
    assert details == {"reason": "timeout", "last_activity": last, "timeout_threshold": 1800}
    assert instant(event["timestamp"]) - instant(last) >= timedelta(seconds=1801)
    assert [get(fleet, session_id)["status"] for session_id in fresh] == ["active"] * 5
    assert [len(events(fleet, session_id)) for session_id in fresh] == [2] * 5


def test_an_overdue_session_reads_as_expired_and_stays_so(fleet: RunningFleet) -> None:
    """AT-E3 [E-02 E-06]: 5 h past a 1-minute timeout; reads do not revive it, a write expires it."""
    session_id = new(fleet, timeout_seconds=60, user_id="late", external_id="late-1")
    age(fleet, 5 * 3600, session_id)
    assert get(fleet, session_id)["status"] == "expired"
    assert fleet.call("session.read_output", session_id=session_id)["status"] == "expired"
    assert fleet.call("session.list", user_id="late", status="expired")["items"][0]["id"] == session_id
    assert fleet.call("session.list", user_id="late", status="active")["items"] == []
    assert fleet.call("session.count", user_id="late")["by_status"]["expired"] == 1
    held = fleet.call("session.create", external_id="late-1", if_exists="return")
    assert (held["id"], held["status"], held["changed"]) == (session_id, "expired", False)
    assert events(fleet, session_id, "session.expired") == []
    for name, arguments in (
        ("session.touch", {}),
        ("session.emit_event", {"type": "note"}),
        ("session.append_output", {"content": "x"}),
        ("session.update", {"model": "m"}),
    ):
        with pytest.raises(SessionExpired):
            fleet.call(name, session_id=session_id, **arguments)
    assert [event["seq"] for event in events(fleet, session_id)] == [1, 2, 3]
    [event] = events(fleet, session_id, "session.expired")
    assert event["payload"]["reason"] == "timeout"
    assert get(fleet, session_id)["status"] == "expired"


def test_a_move_of_an_expired_session(fleet: RunningFleet) -> None:
    """A-06, E-06: the write that finds it overdue says so; from then on it has ended like any other."""
    session_id = new(fleet, timeout_seconds=60)
    age(fleet, 3600, session_id)
    with pytest.raises(SessionExpired):
        fleet.call("session.pause", session_id=session_id)
    with pytest.raises(InvalidTransition) as refused:
        fleet.call("session.pause", session_id=session_id)
    assert refused.value.details == {"from": "expired", "to": "paused", "allowed": []}
    assert fleet.call("session.expire", session_id=session_id)["changed"] is False
    with pytest.raises(SessionExpired):
        fleet.call("session.touch", session_id=session_id)


def test_the_cache_lives_shorter_than_the_session(fleet: RunningFleet) -> None:
    """AT-E11, first part [B-10 E-01]: after 2 s the key is gone, the session is not."""
    session_id = new(fleet)
    key = f"sess:doc:{session_id}"
    assert 0 < fleet.cache.pttl(key) <= CACHE_TTL * 1000
    eventually(lambda: not fleet.cache.exists(key), CACHE_TTL + 1)
    document = get(fleet, session_id)
    assert (document["id"], document["status"]) == (session_id, "active")
    assert fleet.cache.exists(key)


def test_extend_moves_the_deadline_by_the_given_seconds(fleet: RunningFleet) -> None:
    """AT-E11, second part [E-01 E-03]: and ended or overdue sessions cannot be renewed."""
    session_id = new(fleet, timeout_seconds=120)
    before = get(fleet, session_id)
    assert instant(before["expires_at"]) == instant(before["last_activity"]) + timedelta(seconds=120)
    answer = fleet.call("session.extend", session_id=session_id, seconds=90)
    assert instant(answer["expires_at"]) == instant(before["expires_at"]) + timedelta(seconds=90)
    assert answer["last_activity"] == before["last_activity"]
    assert get(fleet, session_id)["expires_at"] == answer["expires_at"]
    with pytest.raises(ValidationFailed, match="timeout_seconds"):
        new(fleet, timeout_seconds=604801)
    age(fleet, 211, session_id)
    with pytest.raises(SessionExpired):
        fleet.call("session.extend", session_id=session_id, seconds=90)
    ended = new(fleet)
    fleet.call("session.terminate", session_id=ended)
    for verb, arguments in (("touch", {}), ("extend", {"seconds": 1})):
        with pytest.raises(InvalidTransition):
            fleet.call(f"session.{verb}", session_id=ended, **arguments)


def test_an_extension_to_the_end_of_time_is_refused_and_loses_nothing(fleet: RunningFleet) -> None:
    """E-03: what is asked for beside it happens, and the session lives on."""
    session_id = new(fleet)
    with fleet.engine.begin() as db:
        late = text("UPDATE sessions SET expires_at = '9999-12-30T23:00:00Z' WHERE id = :id")
        db.execute(late, {"id": session_id})
    answer = fleet.call("session.extend", session_id=session_id, seconds=3600)
    assert instant(answer["expires_at"]) == datetime(9999, 12, 31, tzinfo=UTC)
    for seconds in (1, 604800):
        with pytest.raises(ValidationFailed, match="seconds"):
            fleet.call("session.extend", session_id=session_id, seconds=seconds)
    steps = [("session.extend", {"seconds": 604800}), ("session.update", {"user_id": "u"}), ("session.touch", {})]
    operations = [{"name": name, "arguments": {"session_id": session_id, **arguments}} for name, arguments in steps]
    assert fleet.call("session.apply", operations=operations, whole="operation")["applied"] == 2
    assert get(fleet, session_id)["expires_at"] == answer["expires_at"]


def test_activity_renews_and_reads_do_not(fleet: RunningFleet) -> None:
    """E-02: each kind of activity gives the full time again."""
    session_id = new(fleet)
    for name, arguments in (
        ("session.touch", {}),
        ("session.append_output", {"content": "x"}),
        ("session.emit_event", {"type": "note"}),
        ("session.idle", {}),
    ):
        leave(fleet, 60, session_id)
        fleet.call(name, session_id=session_id, **arguments)
        assert remaining(fleet, session_id) > 1790
    leave(fleet, 60, session_id)
    for name in ("session.get", "session.get_events", "session.read_output", "session.history"):
        fleet.call(name, session_id=session_id)
    assert remaining(fleet, session_id) <= 60


def test_paused_and_recoverable_sessions_have_their_own_time(fleet: RunningFleet) -> None:
    """AT-E12, second half [E-09]: paused outlives 1800 s and expires after 86400, crashed after 604800."""
    clean(fleet)
    paused, crashed = in_status(fleet, "paused"), in_status(fleet, "crashed")
    for rest, seconds in ((paused, 86400), (crashed, 604800)):
        age(fleet, 1801, rest)
        assert clean(fleet) == 0
        age(fleet, seconds - 1801, rest)
        assert clean(fleet) == 1
        [event] = events(fleet, rest, "session.expired")
        assert (event["payload"]["reason"], event["payload"]["timeout_threshold"]) == ("timeout", seconds)


def test_a_message_past_its_deadline_has_no_effect(fleet: RunningFleet) -> None:
    """AT-E13, last part [E-19]: DEADLINE_EXCEEDED, nothing written, and not even an overdue session expired."""
    session_id = new(fleet)
    past = datetime.now().astimezone() - timedelta(seconds=1)
    for name, arguments in (
        ("session.pause", {}),
        ("session.append_output", {"content": "x"}),
        ("session.delete", {}),
    ):
        with pytest.raises(DeadlineExceeded):
            fleet.call(name, session_id=session_id, deadline_at=past, **arguments)
    with pytest.raises(DeadlineExceeded):
        new(fleet, external_id="too-late", deadline_at=past)
    with pytest.raises(SessionNotFound):
        get(fleet, "too-late")
    document = get(fleet, session_id)
    assert (document["status"], document["last_seq"], document["state_version"]) == ("active", 2, 1)
    assert fleet.call("session.pause", session_id=session_id, deadline=20)["status"] == "paused"
    age(fleet, 86401, session_id)
    with pytest.raises(DeadlineExceeded):
        fleet.call("session.touch", session_id=session_id, deadline_at=past)
    assert events(fleet, session_id, "session.expired") == []


def instant(value: str) -> datetime:
    return datetime.fromisoformat(value)
