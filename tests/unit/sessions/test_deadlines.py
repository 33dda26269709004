"""When a session expires and when a duty must look at it (rows E-01, E-03, E-04, E-08, E-09)."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sessionfleet import messages as m
from sessionfleet.errors import ValidationFailed
from sessionfleet.words import STATUSES
from sessions import deadlines, duties, lifecycle
from sessions.change import Change, Context
from sessions.policy import Policy
from sessions.record import Record
from tests.support.records import NOW, context, record, seconds, settled

LIVE_BY_OWN_TIMEOUT = ("initializing", "active", "idle", "waiting_input")


@pytest.mark.parametrize("status", LIVE_BY_OWN_TIMEOUT)
def test_a_working_session_lives_by_its_own_timeout(status: str) -> None:
    """E-01: expires_at = last_activity + timeout."""
    row = record(status=status, timeout_seconds=600, last_activity=NOW + seconds(5))
    assert row.expires_at == NOW + seconds(605)


def test_a_paused_session_lives_by_paused_timeout_seconds() -> None:
    """E-09."""
    assert record(status="paused").expires_at == NOW + seconds(86400)


@pytest.mark.parametrize("status", ["interrupted", "crashed"])
def test_a_recoverable_session_lives_by_its_window(status: str) -> None:
    """E-09."""
    assert record(status=status).expires_at == NOW + seconds(604800)


@pytest.mark.parametrize("status", ["active", "paused", "crashed"])
def test_no_deadline_is_after_the_longest_life(status: str) -> None:
    """E-08."""
    policy = Policy(max_lifetime_seconds=900)
    assert record(policy, status=status, last_activity=NOW + seconds(800)).expires_at == NOW + seconds(900)


policies = st.builds(
    Policy,
    max_lifetime_seconds=st.sampled_from([0, 60, 900, 5000]),
    paused_timeout_seconds=st.integers(60, 5000),
    recovery_window_seconds=st.integers(60, 5000),
    warn_before=st.lists(st.integers(1, 4000), max_size=3, unique=True).map(lambda marks: tuple(sorted(marks))[::-1]),
)


@st.composite
def rows(draw: st.DrawFn) -> tuple[Policy, Record]:
    """A row as settling leaves it: its deadline is capped, it may be extended, it may be warned."""
    policy = draw(policies)
    values: dict[str, Any] = {
        "status": draw(st.sampled_from(STATUSES)),
        "timeout_seconds": draw(st.integers(60, 5000)),
        "warned_threshold": draw(st.sampled_from([None, *policy.warn_before])),
        "last_activity": NOW - seconds(draw(st.integers(0, 6000))),
        "created_at": NOW - seconds(6000),
    }
    row = record(policy, **values)
    if row.expires_at is not None:
        later = row.expires_at + seconds(draw(st.integers(0, 3000)))
        row = dataclasses.replace(row, expires_at=deadlines.capped(row, later, policy))
    return policy, row


def due(row: Record, at: datetime, policy: Policy) -> bool:
    """Whether a duty that came at ``at`` would act."""
    ctx = Context(at, policy, "task-1")
    warned = duties.warn(row, None, ctx) if row.live else duties.LOOKED
    return duties.LOOKED is not warned or duties.expire_overdue(row, None, ctx) is not duties.LOOKED


@given(rows(), st.integers(0, 12000), st.integers(0, 12000))
def test_next_check_is_never_after_the_first_moment_a_duty_must_act(
    case: tuple[Policy, Record], asked: int, came: int
) -> None:
    """E-04, E-05: whenever a duty would act, the check date set at or before that moment has come."""
    policy, row = case
    now, at = NOW + seconds(asked), NOW + seconds(asked + came)
    check = deadlines.next_check(row, now, policy)
    assume(due(row, at, policy))
    assert check is not None
    assert check <= at


@given(rows(), st.integers(0, 12000))
def test_a_duty_that_looked_in_vain_is_not_called_again_at_once(case: tuple[Policy, Record], asked: int) -> None:
    """The check date moves on: only a session that is acted upon may be due now."""
    policy, row = case
    now = NOW + seconds(asked)
    assume(not due(row, now, policy))
    check = deadlines.next_check(row, now, policy)
    assert check is None or check > now


@given(rows(), st.integers(0, 12000))
def test_next_check_is_never_after_the_deadline(case: tuple[Policy, Record], asked: int) -> None:
    """The CHECK constraint of the table holds for every row and instant."""
    policy, row = case
    check = deadlines.next_check(row, NOW + seconds(asked), policy)
    assert (check is None) == row.terminal
    assert check is None or (row.expires_at is not None and check <= row.expires_at)


@given(rows(), st.integers(0, 12000))
def test_next_check_is_no_moment_that_has_passed(case: tuple[Policy, Record], asked: int) -> None:
    """But for an overdue session's deadline: a mark that was passed over is due now, behind those due before."""
    policy, row = case
    now = NOW + seconds(asked)
    check = deadlines.next_check(row, now, policy)
    assert check is None or row.expires_at is None or check >= min(now, row.expires_at)


steps = st.lists(
    st.tuples(st.sampled_from(["touch", "extend", "pause", "resume", "warn", "expire"]), st.integers(1, 2000)),
    max_size=8,
)


@given(policies, st.integers(60, 5000), steps, st.integers(0, 9000))
def test_whatever_happened_a_due_session_is_found(
    policy: Policy, timeout: int, story: list[tuple[str, int]], came: int
) -> None:
    """The lower bound that activity leaves alone stays a lower bound over any run of operations."""
    row, now = record(policy, timeout_seconds=timeout), NOW
    for step, after in story:
        now += seconds(after)
        change = apply(step, row, Context(now, policy, "task-1"))
        if change is None:
            continue
        row = settled(row, change, Context(now, policy, "task-1")).record
        if row.terminal:
            assert row.next_check_at is None
            return
    at = now + seconds(came)
    if due(row, at, policy):
        assert row.next_check_at is not None
        assert row.next_check_at <= at


def apply(step: str, row: Record, ctx: Context) -> Change | None:
    """One operation where it is allowed; an overdue session takes none but its expiry."""
    if step == "expire":
        return duties.expire_overdue(row, None, ctx)
    if row.overdue(ctx.now):
        return None
    if step == "warn":
        return duties.warn(row, None, ctx)
    if step == "touch":
        return lifecycle.touch(row, m.Touch(session_id="x"), ctx)
    if step == "extend":
        return lifecycle.extend(row, m.Extend(session_id="x", seconds=500), ctx)
    if step == "pause":
        return lifecycle.pause(row, m.Pause(session_id="x"), ctx)
    return lifecycle.resume(row, m.Resume(session_id="x"), ctx) if row.status == "paused" else None


def test_activity_renews_and_an_extension_outlasts_it() -> None:
    """E-03: later activity never takes back what extend gave."""
    row, ctx = record(), context()
    row = settled(row, extended(row, 3600, ctx), ctx).record
    assert row.expires_at == NOW + seconds(5400)
    later = context(NOW + seconds(60))
    row = settled(row, touched(row, later), later).record
    assert row.expires_at == NOW + seconds(5400)
    latest = context(NOW + seconds(4000))
    assert settled(row, touched(row, latest), latest).record.expires_at == NOW + seconds(5800)


def test_an_extension_ends_at_the_longest_life() -> None:
    """E-03, E-08."""
    policy = Policy(max_lifetime_seconds=2000)
    row, ctx = record(policy), context(max_lifetime_seconds=2000)
    row = settled(row, extended(row, 3600, ctx), ctx).record
    assert row.expires_at == NOW + seconds(2000)
    assert extended(row, 10, ctx).columns == {}


def test_an_extension_ends_at_the_last_deadline_there_is() -> None:
    """E-03: a typed refusal, also where the sum would be no instant at all; what is there stays as it is."""
    ctx, last = context(), deadlines.LATEST
    row = record(expires_at=last - seconds(60))
    assert settled(row, extended(row, 60, ctx), ctx).record.expires_at == last
    for rest, count in ((60, 61), (0, 1), (0, 604800)):
        with pytest.raises(ValidationFailed, match="seconds: no deadline is after 9999-12-31"):
            extended(record(expires_at=last - seconds(rest)), count, ctx)


def extended(row: Record, count: int, ctx: Context) -> Change:
    return lifecycle.extend(row, m.Extend(session_id="x", seconds=count), ctx)


def touched(row: Record, ctx: Context) -> Change:
    return lifecycle.touch(row, m.Touch(session_id="x"), ctx)
