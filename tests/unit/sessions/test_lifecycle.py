"""Lifecycle verbs as pure decisions (A-05..A-11, A-13, B-02)."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from sessionfleet import messages as m
from sessionfleet.errors import InvalidTransition, PayloadTooLarge, ValidationFailed, VersionConflict
from sessionfleet.words import STATUSES
from sessions import content, lifecycle, removal
from sessions.change import NOTHING
from tests.support.records import NOW, context, record, settled

SID = "s"


def test_a_transition_carries_status_reason_event_history_and_audit() -> None:
    """A-08: one row each, the version one higher, all at the same instant."""
    session = record()

    rows = settled(session, lifecycle.pause(session, m.Pause(session_id=SID, reason="lunch"), context()), context())

    assert (rows.record.status, rows.record.status_reason) == ("paused", "lunch")
    assert rows.record.state_version == session.state_version + 1
    assert rows.record.revision == session.revision + 1
    [event] = rows.events
    assert (event["event_name"], event["event_type"], event["seq"]) == ("session.paused", "session.updated", 3)
    assert event["payload"] == {"agent_id": None, "status": "paused", "updates": ["status"], "reason": "lunch"}
    [move] = rows.transitions
    assert (move["from_status"], move["to_status"], move["seq"], move["reason"]) == ("active", "paused", 3, "lunch")
    assert (move["actor"], move["task_id"], move["at"]) == ("tester", "task-1", NOW)
    [audit] = rows.audit
    assert (audit["event_type"], audit["actor"], audit["session_id"]) == ("session_paused", "tester", session.id)


def test_an_end_is_audited_as_one() -> None:
    """I-03: session_ended beside the transition's own word."""
    session = record()
    rows = settled(session, lifecycle.complete(session, m.Complete(session_id=SID), context()), context())
    assert [row["event_type"] for row in rows.audit] == ["session_completed", "session_ended"]


@pytest.mark.parametrize(
    ("verb", "command", "status", "end_reason"),
    [
        (lifecycle.complete, m.Complete(session_id=SID), "completed", "completed"),
        (lifecycle.complete, m.Complete(session_id=SID, error="e"), "failed", "error"),
        (lifecycle.fail, m.Fail(session_id=SID, error="e"), "failed", "error"),
        (lifecycle.terminate, m.Terminate(session_id=SID), "terminated", "user"),
        (lifecycle.expire, m.Expire(session_id=SID), "expired", "timeout"),
    ],
)
def test_each_end_has_its_reason_and_its_instant(verb: Any, command: Any, status: str, end_reason: str) -> None:
    """A-09, A-10."""
    session = record()
    after = settled(session, verb(session, command, context()), context()).record
    assert (after.status, after.end_reason, after.ended_at) == (status, end_reason, NOW)
    assert after.error_message == getattr(command, "error", None)
    assert after.next_check_at is None


def test_start_sets_started_at_once() -> None:
    session = record(status="initializing", started_at=None)
    started = settled(session, lifecycle.start(session, m.Start(session_id=SID), context()), context()).record
    assert started.started_at == NOW

    later = context(NOW.replace(hour=13))
    idle = dataclasses.replace(started, status="idle")
    assert "started_at" not in lifecycle.resume(idle, m.Resume(session_id=SID), later).columns


@pytest.mark.parametrize("status", [status for status in STATUSES if status != "initializing"])
def test_start_is_for_fresh_sessions_only(status: Any) -> None:
    """A-07."""
    with pytest.raises(InvalidTransition):
        lifecycle.start(record(status=status), m.Start(session_id=SID), context())


@pytest.mark.parametrize("status", [status for status in STATUSES if status not in ("paused", "idle")])
def test_resume_is_for_paused_and_idle_sessions_only(status: Any) -> None:
    """A-07."""
    with pytest.raises(InvalidTransition):
        lifecycle.resume(record(status=status), m.Resume(session_id=SID), context())


def test_recovery_raises_the_epoch_and_counts() -> None:
    session = record(status="crashed", recovery_needed=True, recovery_type="crash", lease_epoch=4, recovery_count=1)
    rows = settled(session, lifecycle.recover(session, m.Recover(session_id=SID), context()), context())
    after = rows.record
    assert (after.status, after.recovery_needed, after.recovered_at) == ("active", False, NOW)
    assert (after.lease_epoch, after.recovery_count, after.session_type) == (5, 2, session.session_type)
    assert rows.events[0]["event_name"] == "session.recovered"


@pytest.mark.parametrize("status", STATUSES)
def test_the_same_status_is_no_change(status: Any) -> None:
    """A-07: every status, also a terminal one."""
    session = record(status=status)
    assert lifecycle.set_status(session, m.SetStatus(session_id=SID, status=status), context()) is NOTHING
    assert content.update(session, m.Update(session_id=SID, status=status), context()) is NOTHING


@pytest.mark.parametrize(
    ("word", "status"),
    [("STARTING", "initializing"), ("Processing", "active"), ("suspended", "idle"), ("terminating", "terminated")],
)
def test_process_words_mean_a_status_and_stay_readable(word: str, status: str) -> None:
    """A-13, A-14: beside the keys that were there."""
    session = record(status="waiting_input", runtime_metadata={"container_id": "c"})
    command = m.SetStatus(session_id=SID, status=word)
    if status == "initializing":
        with pytest.raises(InvalidTransition):
            lifecycle.set_status(session, command, context())
        return
    change = lifecycle.set_status(session, command, context())
    assert change.to == status
    assert change.columns["runtime_metadata"] == {"container_id": "c", "process_status": word}
    assert "runtime_metadata" in change.updates


def test_updates_of_a_move_name_only_what_really_changed() -> None:
    """B-04 for the columns a status verb can bring along."""
    session = record(process_id=7, error_message="old")
    command = m.Crash(session_id=SID, process_id=7, error_message="new")
    assert list(lifecycle.crash(session, command, context()).updates) == ["status", "error_message"]


BROUGHT = [
    (lifecycle.set_status, m.SetStatus, {"status": "idle"}, "runtime_metadata"),
    (lifecycle.complete, m.Complete, {}, "metrics"),
    (lifecycle.fail, m.Fail, {}, "metrics"),
]


@pytest.mark.parametrize(("verb", "message", "arguments", "field"), BROUGHT)
def test_what_a_move_brings_along_has_its_limit(verb: Any, message: Any, arguments: Any, field: str) -> None:
    """B-08: of what would be stored; at the limit it is, a byte more is refused."""
    session = record(**{field: {"a": "x" * 50}})
    ctx = context(max_metadata_bytes=100)
    assert verb(session, message(session_id=SID, **arguments, **{field: {"b": "y" * 35}}), ctx).columns[field]
    with pytest.raises(PayloadTooLarge) as refused:
        verb(session, message(session_id=SID, **arguments, **{field: {"b": "y" * 36}}), ctx)
    assert refused.value.details == {"field": field, "size": 101, "limit": 100}


def test_an_unknown_word_names_the_known_ones() -> None:
    with pytest.raises(ValidationFailed, match="processing") as refused:
        lifecycle.set_status(record(), m.SetStatus(session_id=SID, status="flying"), context())
    assert refused.value.details["fields"][0]["field"] == "status"


STALE = [
    (lifecycle.pause, m.Pause(session_id=SID, expected_version=1), "active"),
    (lifecycle.pause, m.Pause(session_id=SID, expected_version=1), "paused"),
    (lifecycle.pause, m.Pause(session_id=SID, expected_version=1), "completed"),
    (lifecycle.extend, m.Extend(session_id=SID, expected_version=1, seconds=5), "active"),
    (removal.delete, m.Delete(session_id=SID, expected_version=1), "active"),
    (content.update, m.Update(session_id=SID, expected_version=1, context={"a": 1}), "active"),
    (content.update, m.Update(session_id=SID, expected_version=1), "active"),
    (content.update, m.Update(session_id=SID, expected_version=1, mode="append", user_id="u"), "active"),
    (content.update, m.Update(session_id=SID, expected_version=1, tags=["a"]), "active"),
    (content.update, m.Update(session_id=SID, expected_version=1, mode="append", context=None), "active"),
    (content.update_context, m.UpdateContext(session_id=SID, expected_version=1, current_batch=1), "active"),
]


@pytest.mark.parametrize(("verb", "command", "status"), STALE)
def test_a_stale_version_is_refused_before_anything_else(verb: Any, command: Any, status: Any) -> None:
    """B-02: the error says which version there is."""
    with pytest.raises(VersionConflict) as refused:
        verb(record(status=status), command, context())
    assert (refused.value.details["expected"], refused.value.details["current"]) == (1, 2)


NEVER_STALE = [
    (lifecycle.touch, m.Touch(session_id=SID, expected_version=1)),
    (content.update_metrics, m.UpdateMetrics(session_id=SID, expected_version=1, metrics={"n": 1})),
    (content.update, m.Update(session_id=SID, expected_version=1, tags={"add": ["a"]})),
    (content.update, m.Update(session_id=SID, expected_version=1, account_ids={"remove": ["a"], "add": ["b"]})),
    (content.update, m.Update(session_id=SID, expected_version=1, mode="append", context={"log": [1]}, tags=["a"])),
    (content.update_context, m.UpdateContext(session_id=SID, expected_version=1, failed_accounts={"add": ["a"]})),
]


@pytest.mark.parametrize(("verb", "command"), NEVER_STALE)
def test_what_commutes_is_never_stale(verb: Any, command: Any) -> None:
    """B-02: counters and sets."""
    assert verb(record(), command, context()) is not NOTHING
