"""Creating and updating as pure decisions (A-15, A-16, B-01, B-04, B-05, B-08)."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from sessionfleet import messages as m
from sessionfleet.errors import (
    AgentNotFound,
    CheckpointTooLarge,
    InvalidTransition,
    PayloadTooLarge,
    SessionExists,
    SessionExpired,
    ValidationFailed,
)
from sessions import content, creation
from sessions.change import NOTHING, Context
from sessions.policy import Policy
from tests.support.records import NOW, context, record

SID = "s"


def update(session: Any = None, **arguments: Any) -> Any:
    return content.update(session or record(), m.Update(session_id=SID, **arguments), context())


def test_absent_is_unchanged_and_null_clears() -> None:
    """B-04."""
    session = record(user_id="u", model="m", context={"a": 1}, tags=["t"], timeout_seconds=99)
    change = update(session, user_id=None, context=None, tags=None, timeout_seconds=None)
    assert change.columns == {
        "user_id": None,
        "context": {},
        "tags": [],
        "timeout_seconds": 1800,
        "context_version": 2,
    }
    assert sorted(change.updates) == ["context", "tags", "timeout_seconds", "user_id"]


@pytest.mark.parametrize("field", ["session_type", "priority", "status"])
def test_what_always_has_a_value_cannot_be_cleared(field: str) -> None:
    with pytest.raises((ValidationFailed, ValidationError)):
        update(**{field: None})


def test_nothing_really_changed_is_nothing() -> None:
    session = record(user_id="u", context={"a": [1, {"b": None}]}, tags=["t"])
    same: list[dict[str, Any]] = [
        {},
        {"user_id": "u"},
        {"context": {"a": [1, {"b": None}]}},
        {"tags": ["t"]},
        {"tags": {"add": ["t"], "remove": ["x"]}},
        {"status": "active"},
    ]
    for arguments in same:
        assert update(session, **arguments) is NOTHING


def test_a_status_and_data_are_one_change() -> None:
    """001 L11: updates name the status and the columns."""
    change = update(status="paused", checkpoint={"step": 1}, status_reason="lunch")
    assert (change.to, change.reason) == ("paused", "lunch")
    assert list(change.updates) == ["status", "checkpoint", "status_reason"]
    assert len(change.events) == 1
    with pytest.raises(InvalidTransition):
        update(record(status="completed"), status="active", checkpoint={"step": 1})


def test_a_move_keeps_the_reason_that_was_there_already() -> None:
    """A-08: a reason that is given again is the reason of this move too."""
    change = update(record(status_reason="lunch"), status="paused", status_reason="lunch")
    assert (change.reason, change.columns["status_reason"]) == ("lunch", "lunch")
    assert list(change.updates) == ["status"]


def test_a_process_word_stays_readable_after_an_update_too() -> None:
    """A-13."""
    change = update(record(runtime_metadata={"pid": 7}), status="Suspended", runtime_metadata={"pod_name": "p"})
    assert change.to == "idle"
    assert change.columns["runtime_metadata"] == {"pid": 7, "pod_name": "p", "process_status": "Suspended"}
    assert list(change.updates) == ["status", "runtime_metadata"]


def test_replacing_by_nothing_needs_the_version_too() -> None:
    """B-01."""
    with pytest.raises(ValidationError, match="expected_version"):
        m.Update(session_id=SID, mode="replace", context=None)
    assert m.Update(session_id=SID, mode="replace", expected_version=2, context=None)


def test_an_ended_session_takes_corrections_an_expired_one_nothing() -> None:
    assert update(record(status="completed"), metadata={"note": 1}).columns
    with pytest.raises(SessionExpired):
        update(record(status="expired"), metadata={"note": 1})


@pytest.mark.parametrize(
    ("field", "limit"),
    [("context", "max_context_bytes"), ("metadata", "max_metadata_bytes"), ("checkpoint", "max_checkpoint_bytes")],
)
def test_sizes_are_measured_after_the_merge(field: str, limit: str) -> None:
    """B-08: compact UTF-8 bytes of what would be stored."""
    session = record(**{field: {"a": "x" * 50}})
    ctx = context(NOW, **{limit: 100})
    grown = {"a": "x" * 50, "b": "y" * 35}
    assert content.update(session, m.Update(session_id=SID, **{field: grown}), ctx).columns
    grown["b"] += "y"
    with pytest.raises(PayloadTooLarge) as refused:
        content.update(session, m.Update(session_id=SID, **{field: grown}), ctx)
    assert (refused.value.details["size"], refused.value.details["limit"]) == (101, 100)
    assert isinstance(refused.value, CheckpointTooLarge) == (field == "checkpoint")


def test_agents_are_looked_up_only_when_asked_to() -> None:
    """A-16."""
    strict = Context(NOW, Policy(check_agents=True), "task-1", known_agents=frozenset({"known"}))
    for agent in ("known", None):
        creation.create(None, m.Create(agent_id=agent), strict)
        content.update(record(), m.Update(session_id=SID, agent_id=agent), strict)
    with pytest.raises(AgentNotFound):
        creation.create(None, m.Create(agent_id="ghost"), strict)
    with pytest.raises(AgentNotFound):
        content.update(record(), m.Update(session_id=SID, agent_id="ghost"), strict)
    creation.create(None, m.Create(agent_id="ghost"), context())


def test_strict_types_and_the_lower_bound_of_timeouts_are_policy() -> None:
    """A-15, E-01."""
    for verb_arguments in ({"session_type": "mine"}, {"timeout_seconds": 59}):
        with pytest.raises(ValidationFailed):
            creation.create(None, m.Create(**verb_arguments), context(strict_session_types=True))
    creation.create(None, m.Create(session_type="mine", timeout_seconds=59), context(min_timeout_seconds=1))


def test_a_holder_of_the_id_is_an_error_or_the_answer() -> None:
    """A-02; a tombstone is never an answer."""
    with pytest.raises(SessionExists):
        creation.create(record(), m.Create(), context())
    returned = creation.create(record(), m.Create(if_exists="return"), context())
    assert returned.create is None
    assert not returned.columns
    assert not returned.events
    with pytest.raises(SessionExists):
        creation.create(record(deleted_at=NOW), m.Create(if_exists="return"), context())


def test_arguments_are_copied_not_shared() -> None:
    """A-19: a caller's object changed later changes no session."""
    given: dict[str, Any] = {"list": [1]}
    message = m.Create.parse({"context": given, "metadata": given})
    change = creation.create(None, message, context())
    given["list"].append(2)
    assert change.create is not None
    assert change.create.context == {"list": [1]}


def test_batch_fields_live_in_the_context_and_unknown_ones_in_metadata() -> None:
    """B-05."""
    message = m.UpdateContext(session_id=SID, current_batch=3, failed_accounts=["b"], colour="blue")
    session = record(context={"failed_accounts": ["a"], "current_batch": 2, "other": 1})
    change = content.update_context(session, message, context())
    assert change.columns["context"] == {"failed_accounts": ["b"], "current_batch": 3, "other": 1}
    assert change.columns["metadata"] == {"colour": "blue"}
    cleared = content.update_context(session, m.UpdateContext(session_id=SID, current_batch=None), context())
    assert "current_batch" not in cleared.columns["context"]


def test_metrics_that_change_nothing_are_nothing() -> None:
    session = record(metrics={"n": 1})
    assert content.update_metrics(session, m.UpdateMetrics(session_id=SID, metrics={"n": 0}), context()) is NOTHING
    with pytest.raises(PayloadTooLarge):
        content.update_metrics(
            session, m.UpdateMetrics(session_id=SID, metrics={"x": "y" * 200}), context(max_metadata_bytes=100)
        )


def test_a_boolean_that_becomes_a_number_is_a_change() -> None:
    session = record(metrics={"n": True})
    change = content.update_metrics(session, m.UpdateMetrics(session_id=SID, metrics={"n": 1}), context())
    assert change.columns["metrics"]["n"] is not True


def test_null_clears_a_batch_field_that_is_a_set() -> None:
    """B-04, B-05: as it does the other batch fields."""
    session = record(context={"processed_accounts": ["a"], "other": 1})
    change = content.update_context(session, m.UpdateContext(session_id=SID, processed_accounts=None), context())
    assert change.columns["context"] == {"other": 1}
    nothing = m.UpdateContext(session_id=SID, failed_accounts=None)
    assert content.update_context(session, nothing, context()) is NOTHING
