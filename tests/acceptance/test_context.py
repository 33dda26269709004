"""Changing context, metadata and columns through real workers (rows B-01, B-02, B-04..B-06)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from sessionfleet.errors import PatchTestFailed, ValidationFailed, VersionConflict
from tests.support import RunningFleet
from tests.support.asking import Document, codes, events, new, refresh, stored, together


def update(fleet: RunningFleet, session_id: str, **arguments: Any) -> Document:
    answer: Document = fleet.call("session.update", session_id=session_id, **arguments)
    return answer


def test_merge_replace_and_null(fleet: RunningFleet) -> None:
    """AT-B1 [B-01]."""
    session_id = new(fleet, context={"a": 1, "b": {"c": 2}})["id"]

    merged = update(fleet, session_id, context={"b": {"d": 3}})
    assert merged["context"] == {"a": 1, "b": {"c": 2, "d": 3}}
    assert (merged["context_version"], merged["updates"]) == (2, ["context"])

    with pytest.raises(ValidationFailed, match="expected_version"):
        update(fleet, session_id, mode="replace", context={"b": {"d": 3}})
    version = merged["state_version"]
    replaced = update(fleet, session_id, mode="replace", expected_version=version, context={"b": {"d": 3}})
    assert replaced["context"] == {"b": {"d": 3}}

    assert update(fleet, session_id, context={"b": None})["context"] == {}
    assert refresh(fleet, session_id)["context"] == {}


@pytest.mark.parametrize("field", ["context", "metadata", "runtime_metadata"])
def test_five_modes_for_each_document(fleet: RunningFleet, field: str) -> None:
    """B-01: merge is deep, shallow is not, patch is RFC 6902, append grows lists, replace needs the version."""
    start = {"deep": {"x": 1, "y": 2}, "list": [1]}
    session_id = new(fleet, **{field: start})["id"]
    merged = update(fleet, session_id, **{field: {"deep": {"x": None}, "list": [2]}})[field]
    assert merged == {"deep": {"y": 2}, "list": [2]}
    assert update(fleet, session_id, mode="shallow", **{field: {"deep": {"z": 3}}})[field]["deep"] == {"z": 3}
    patch = [{"op": "test", "path": "/list/0", "value": 2}, {"op": "add", "path": "/list/-", "value": 3}]
    assert update(fleet, session_id, mode="patch", **{field: patch})[field]["list"] == [2, 3]
    appended = update(fleet, session_id, mode="append", **{field: {"list": [4], "more": [5]}})
    assert appended[field] == {"deep": {"z": 3}, "list": [2, 3, 4], "more": [5]}
    version = appended["state_version"]
    assert update(fleet, session_id, mode="replace", expected_version=version, **{field: {}})[field] == {}


def test_a_patch_is_all_or_nothing(fleet: RunningFleet) -> None:
    """B-01: a failed test is E:PATCH_TEST_FAILED, and the operations before it leave no trace."""
    session_id = new(fleet, context={"a": 1})["id"]
    before = stored(fleet, session_id)
    patch = [{"op": "add", "path": "/b", "value": 2}, {"op": "test", "path": "/a", "value": 2}]
    with pytest.raises(PatchTestFailed):
        update(fleet, session_id, mode="patch", context=patch)
    for unfit in ([{"op": "remove", "path": "/nope"}], [{"op": "fly", "path": "/a"}], [{"op": "add", "path": "/a"}]):
        with pytest.raises(ValidationFailed, match="context"):
            update(fleet, session_id, mode="patch", context=unfit)
    assert stored(fleet, session_id) == before


def test_null_clears_and_nothing_changed_is_nothing_written(fleet: RunningFleet) -> None:
    """AT-B2 [B-04]: `updates` has what really changed; an empty or equal update leaves no trace."""
    session_id = new(fleet, checkpoint={"step": 1}, user_id="u", tags=["a"])["id"]
    cleared = update(fleet, session_id, checkpoint=None, user_id="u")
    assert (cleared["checkpoint"], cleared["updates"], cleared["changed"]) == (None, ["checkpoint"], True)
    assert events(fleet, session_id)[-1]["payload"]["updates"] == ["checkpoint"]
    assert refresh(fleet, session_id)["checkpoint"] is None

    before = stored(fleet, session_id)
    for nothing in (
        {},
        {"checkpoint": None},
        {"user_id": "u", "context": {}, "tags": ["a"]},
        {"context": {"x": None}},
    ):
        answer = update(fleet, session_id, **nothing)
        assert (answer["changed"], answer["updates"]) == (False, [])
        assert answer["updated_at"] == cleared["updated_at"]
    assert stored(fleet, session_id) == before
    with pytest.raises(ValidationFailed):
        update(fleet, session_id, session_type=None)


def test_one_of_20_writers_wins_and_20_appends_all_do(fleet: RunningFleet) -> None:
    """AT-B3 [B-02]: the others learn the present version; appends, sets and counters are never stale."""
    session = new(fleet)
    call = {"session_id": session["id"], "expected_version": session["state_version"]}
    outcomes = together(fleet, [("session.update", {**call, "context": {"winner": n}}) for n in range(20)])
    assert sorted(codes(outcomes)) == ["VERSION_CONFLICT"] * 19 + ["ok"]
    for loser in outcomes:
        if isinstance(loser, VersionConflict):
            assert loser.details == {"session_id": session["id"], "expected": 1, "current": 2}
    [winner] = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
    assert refresh(fleet, session["id"])["context"] == winner["context"]

    appends = [("session.update", {**call, "mode": "append", "context": {"log": [n]}}) for n in range(20)]
    counts = [("session.update_metrics", {**call, "metrics": {"api_call_count": 1}}) for _ in range(20)]
    sets = [("session.update_context", {**call, "account_ids": {"add": [str(n)]}}) for n in range(20)]
    assert set(codes(together(fleet, appends + counts + sets))) == {"ok"}
    found = refresh(fleet, session["id"])
    assert sorted(found["context"]["log"]) == list(range(20))
    assert set(found["account_ids"]) == {str(n) for n in range(20)}
    assert found["metrics"] == {"api_call_count": 20}
    assert found["state_version"] == winner["state_version"] + 40


@pytest.mark.parametrize("verb", ["pause", "terminate", "delete", "extend", "set_status"])
def test_every_write_takes_the_expected_version(fleet: RunningFleet, verb: str) -> None:
    """B-02: nothing written by a stale one, whatever the verb."""
    session_id = new(fleet)["id"]
    before = stored(fleet, session_id)
    extra = {"extend": {"seconds": 60}, "set_status": {"status": "active"}}.get(verb, {})
    with pytest.raises(VersionConflict):
        fleet.call(f"session.{verb}", session_id=session_id, expected_version=7, **extra)
    assert stored(fleet, session_id) == before
    fleet.call(f"session.{verb}", session_id=session_id, expected_version=1, **extra)


def test_ordered_sets_and_batch_fields(fleet: RunningFleet) -> None:
    """AT-B10 [B-05]: ['1'] plus ['1', '2'] is ['1', '2']; removal works; unknown keys go to metadata."""
    session_id = new(fleet, account_ids=["1"])["id"]

    def context(**arguments: Any) -> Document:
        answer: Document = fleet.call("session.update_context", session_id=session_id, **arguments)
        return answer

    assert context(account_ids={"add": ["1", "2"]})["account_ids"] == ["1", "2"]
    assert context(account_ids={"remove": ["1"], "add": ["3"]})["account_ids"] == ["2", "3"]
    assert context(mode="append", account_ids=["3", "4"])["account_ids"] == ["2", "3", "4"]
    assert context(account_ids=["9"])["account_ids"] == ["9"]
    done = context(
        current_batch=2,
        total_batches=5,
        processed_accounts={"add": ["a", "a", "b"]},
        failed_accounts={"add": ["c"]},
        recommendations_count=7,
        checkpoint_timestamp="2026-01-01T00:00:00+00:00",
        colour="blue",
    )
    assert done["context"] == {
        "current_batch": 2,
        "total_batches": 5,
        "processed_accounts": ["a", "b"],
        "failed_accounts": ["c"],
        "recommendations_count": 7,
        "checkpoint_timestamp": "2026-01-01T00:00:00+00:00",
    }
    assert done["metadata"] == {"colour": "blue"}
    assert context(processed_accounts={"remove": ["a"]})["context"]["processed_accounts"] == ["b"]


def test_20_parallel_increments_add_up(fleet: RunningFleet) -> None:
    """AT-B10 [B-06]: integers add, lists append, free keys too; stored."""
    session_id = new(fleet)["id"]
    metrics = {"token_usage": 2, "account_processing_times_ms": [5], "my_counter": 1}
    call = ("session.update_metrics", {"session_id": session_id, "metrics": metrics})
    together(fleet, [call] * 20)
    assert refresh(fleet, session_id)["metrics"] == {
        "token_usage": 40,
        "account_processing_times_ms": [5] * 20,
        "my_counter": 20,
    }


def test_an_account_list_that_the_context_holds_already(fleet: RunningFleet) -> None:
    """B-05: whatever a caller has put there."""
    session_id = new(fleet, context={"processed_accounts": [{"id": 1}, 2]})["id"]
    call = {"session_id": session_id, "processed_accounts": {"add": ["3"]}}
    assert fleet.call("session.update_context", **call)["context"] == {"processed_accounts": [{"id": 1}, 2, "3"]}
    cleared = fleet.call("session.update_context", session_id=session_id, processed_accounts=None)
    assert (cleared["context"], cleared["updates"]) == ({}, ["context"])


def test_sets_are_sorted_lists_and_instants_text_in_every_argument(fleet: RunningFleet) -> None:
    """B-07: as within a document; so a repeat has the same body, whatever the order of a set in its process."""
    names = {"e", "d", "c", "b", "a"}
    key = str(uuid4())
    made = new(fleet, tags=names, account_ids=names, entity_ids=names, idempotency_key=key)
    assert made["tags"] == made["account_ids"] == sorted(names)
    again = new(fleet, tags=sorted(names), account_ids=sorted(names), entity_ids=sorted(names), idempotency_key=key)
    assert (again["id"], again["replayed"]) == (made["id"], True)
    call = {"session_id": made["id"]}
    assert fleet.call("session.update", **call, tags={"z", "y"})["tags"] == ["y", "z"]
    assert fleet.call("session.update", **call, tags={"add": names})["tags"] == ["y", "z", *sorted(names)]
    at = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    done = fleet.call("session.update_context", **call, checkpoint_timestamp=at, failed_accounts={"q", "p"})
    assert done["context"] == {"checkpoint_timestamp": "2026-03-29T01:30:00+00:00", "failed_accounts": ["p", "q"]}
    with pytest.raises(ValidationFailed, match="time zone"):
        fleet.call("session.update_context", **call, checkpoint_timestamp=at.replace(tzinfo=None))
