"""What duties decide about one session (rows E-04, E-05, E-06, E-08, E-09)."""

from __future__ import annotations

from typing import Any

import pytest

from sessionfleet import messages as m
from sessionfleet.words import LIVE, RECOVERABLE, TERMINAL
from sessions import duties, lifecycle
from sessions.document import as_read
from sessions.policy import Policy
from sessions.record import Record
from tests.support.records import NOW, context, record, seconds, settled


def warned(row: Record, at: float, **policy: Any) -> dict[str, Any] | None:
    """The payload of the warning given ``at`` seconds after NOW, if one is."""
    change = duties.warn(row, None, context(NOW + seconds(at), **policy))
    return change.events[0].payload if change.events else None


@pytest.mark.parametrize("status", sorted(LIVE - {"paused"}))
def test_all_live_statuses_are_warned_with_the_real_rest(status: str) -> None:
    """E-04: the rest is counted, rounded up, never the constant of the setting."""
    payload = warned(record(status=status), 1800 - 279.4)
    assert payload is not None
    assert payload["timeout_in_seconds"] == 280
    assert payload["threshold"] == 300
    assert payload["last_activity"] == NOW.isoformat()
    assert payload["expires_at"] == (NOW + seconds(1800)).isoformat()
    assert payload["limit"] == "timeout"


def test_a_paused_session_is_warned_before_its_own_deadline() -> None:
    """E-04, E-09."""
    row = record(status="paused")
    assert warned(row, 1600) is None
    payload = warned(row, 86400 - 300)
    assert payload is not None
    assert payload["timeout_in_seconds"] == 300


@pytest.mark.parametrize("at", [0, 1499.9, 1800, 1801])
def test_no_warning_outside_the_window(at: float) -> None:
    """E-04: neither early nor once the time is over; only the next check date is set."""
    assert duties.warn(record(), None, context(NOW + seconds(at))) is duties.LOOKED


@pytest.mark.parametrize("status", sorted(RECOVERABLE | TERMINAL))
def test_a_session_that_is_not_live_is_never_warned(status: str) -> None:
    """E-04."""
    row = record(status=status, expires_at=NOW + seconds(100))
    assert duties.warn(row, None, context(NOW + seconds(1))) is duties.LOOKED


def test_one_warning_per_deadline_and_one_more_after_renewal() -> None:
    """E-04: once per expiry date; a new date arms it again."""
    ctx = context(NOW + seconds(1520))
    row = settled(record(), duties.warn(record(), None, ctx), ctx).record
    assert row.warned_at == NOW + seconds(1520)
    assert duties.warn(row, None, context(NOW + seconds(1700))) is duties.LOOKED
    renewed = settled(row, lifecycle.touch(row, m.Touch(session_id="x"), ctx), ctx).record
    assert warned(renewed, 1520 + 1499) is None
    assert warned(renewed, 1520 + 1501) is not None


def test_each_threshold_warns_once_and_a_missed_one_is_not_made_up() -> None:
    """E-04: the nearest threshold reached is the one that is told."""
    marks = {"warn_before": (600, 300, 60)}
    row = record()
    told = []
    for at in (1100, 1250, 1260, 1450, 1750, 1760):
        ctx = context(NOW + seconds(at), **marks)
        change = duties.warn(row, None, ctx)
        told.append(change.events[0].payload["threshold"] if change.events else None)
        row = settled(row, change, ctx).record
    assert told == [None, 600, None, None, 60, None]


def test_the_longest_life_has_its_own_warning() -> None:
    """E-08: the warning says which limit it speaks of."""
    policy = {"max_lifetime_seconds": 900}
    payload = warned(record(Policy(max_lifetime_seconds=900)), 700, **policy)
    assert payload is not None
    assert (payload["limit"], payload["timeout_in_seconds"]) == ("hard_limit", 200)


def test_a_warning_is_no_activity_and_no_state_change() -> None:
    """E-02: a warned session runs out all the same."""
    ctx = context(NOW + seconds(1600))
    done = settled(record(), duties.warn(record(), None, ctx), ctx)
    assert done.record.last_activity == NOW
    assert done.record.expires_at == NOW + seconds(1800)
    assert done.record.state_version == record().state_version


def expired(row: Record, at: float, **policy: Any) -> dict[str, Any]:
    """The columns and the payload of an expiry ``at`` seconds after NOW."""
    ctx = context(NOW + seconds(at), **policy)
    change = duties.expire_overdue(row, None, ctx)
    assert change.to == "expired"
    return {**change.columns, "payload": change.events[0].payload}


@pytest.mark.parametrize(
    ("status", "threshold"),
    [("active", 1800), ("waiting_input", 1800), ("paused", 86400), ("crashed", 604800), ("interrupted", 604800)],
)
def test_an_overdue_session_expires_with_the_threshold_that_passed(status: str, threshold: int) -> None:
    """E-05, E-09: {reason, last_activity, timeout_threshold}."""
    found = expired(record(status=status), threshold)
    assert found["end_reason"] == "timeout"
    assert found["payload"]["reason"] == "timeout"
    assert found["payload"]["last_activity"] == NOW.isoformat()
    assert found["payload"]["timeout_threshold"] == threshold


def test_expiry_is_no_activity() -> None:
    """E-05: last_activity stays what it was when the time ran out; the end is the present."""
    ctx = context(NOW + seconds(4000))
    row = settled(record(), duties.expire_overdue(record(), None, ctx), ctx).record
    assert row.last_activity == NOW
    assert row.ended_at == NOW + seconds(4000)
    assert row.next_check_at is None


@pytest.mark.parametrize("status", ["active", "paused", "crashed"])
def test_a_session_that_is_not_overdue_is_left_alone(status: str) -> None:
    """E-05: re-checked under the row lock."""
    row = record(status=status)
    assert row.expires_at is not None
    before = context(row.expires_at - seconds(0.000001))
    assert duties.expire_overdue(row, None, before) is duties.LOOKED


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_an_ended_session_never_expires(status: str) -> None:
    """A-06: a terminal status has no exit."""
    row = record(status=status, expires_at=NOW)
    assert duties.expire_overdue(row, None, context(NOW + seconds(9999), max_lifetime_seconds=60)) is duties.LOOKED


def test_a_busy_session_ends_with_hard_limit() -> None:
    """E-08: whatever its activity."""
    policy = Policy(max_lifetime_seconds=3600)
    row = record(policy, last_activity=NOW + seconds(3599))
    found = expired(row, 3600, max_lifetime_seconds=3600)
    assert found["end_reason"] == found["payload"]["reason"] == "hard_limit"
    assert found["payload"]["timeout_threshold"] == 3600


def test_a_limit_switched_on_later_ends_a_session_whose_deadline_does_not_know_it() -> None:
    """E-08: the deadline in the row was written while the limit was off."""
    row = record(last_activity=NOW + seconds(3599))
    assert row.expires_at == NOW + seconds(3599 + 1800)
    assert expired(row, 3600, max_lifetime_seconds=3600)["end_reason"] == "hard_limit"


def test_idleness_that_came_first_is_the_reason() -> None:
    """E-05, E-08: the longest life passed later than the deadline of inactivity."""
    assert expired(record(), 5000, max_lifetime_seconds=3600)["end_reason"] == "timeout"


def test_a_write_on_an_overdue_session_expires_it_and_is_refused() -> None:
    """E-06: the change is written and the error answered."""
    change = duties.refuse_overdue(record(), context(NOW + seconds(1800)))
    assert change.to == "expired"
    assert change.error is not None
    assert (change.error.code, change.error.http_status) == ("SESSION_EXPIRED", 410)


def test_an_overdue_session_reads_as_expired_and_nothing_is_written() -> None:
    """E-06."""
    row = record()
    assert as_read(row, NOW + seconds(1799), Policy())["status"] == "active"
    shown = as_read(row, NOW + seconds(1800), Policy())
    assert (shown["status"], shown["end_reason"]) == ("expired", "timeout")
    assert row.status == "active"


@pytest.mark.parametrize(("timeout", "reason"), [(1999, "timeout"), (2000, "hard_limit"), (7200, "hard_limit")])
def test_an_overdue_session_reads_with_the_reason_that_the_duty_writes(timeout: int, reason: str) -> None:
    """E-06, E-08."""
    policy, ctx = Policy(max_lifetime_seconds=2000), context(NOW + seconds(2000), max_lifetime_seconds=2000)
    row = record(policy, timeout_seconds=timeout)
    assert as_read(row, ctx.now, policy)["end_reason"] == reason
    assert settled(row, duties.expire_overdue(row, None, ctx), ctx).record.end_reason == reason
