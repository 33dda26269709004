"""From a call to a message, and from a stored result to an answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sessionfleet.errors import (
    CODES,
    FleetError,
    Internal,
    SessionNotFound,
    UnknownOperation,
    ValidationFailed,
)
from sessionfleet.messages import CATALOGUE, Message
from sessionfleet.request import Request, answer_of, next_page, prepare

ANY = Request("t", "session.get", "sessions", {}, 6)


def failed(kind: str, *args: Any) -> dict[str, Any]:
    return {"status": "FAILURE", "result": {"exc_type": kind, "exc_message": list(args), "exc_module": "m"}}


def test_a_write_gets_a_key_of_its_own_and_keeps_a_given_one() -> None:
    first, second = (prepare(task_id, "session.create", {}).idempotency_key for task_id in ("t", "u"))
    assert (first, second) == ("t", "u"), "that of its message"
    assert prepare("t", "session.create", {"idempotency_key": "mine"}).idempotency_key == "mine"


def test_any_set_becomes_a_list_in_an_order_of_its_own() -> None:
    """B-07: whatever its items are, the same set gives the same body."""
    sets: list[tuple[frozenset[Any], list[Any]]] = [
        (frozenset({3, 1}), [1, 3]),
        (frozenset({"b", 1, None}), [None, 1, "b"]),
        (frozenset({(1, "a"), (1, 2), (1, None)}), [[1, "a"], [1, 2], [1, None]]),
    ]
    for given, items in sets:
        assert prepare("t", "session.create", {"context": {"set": given}}).arguments["context"] == {"set": items}


def test_reads_and_duties_carry_no_key() -> None:
    assert prepare("t", "session.get", {"session_id": "s"}).arguments == {"session_id": "s"}
    assert prepare("t", "maintenance.cleanup_stale", {}).arguments == {}


def test_a_deadline_becomes_an_instant() -> None:
    before = datetime.now(UTC)
    sent = prepare("t", "session.touch", {"session_id": "s"}, deadline=5).arguments["deadline_at"]
    assert timedelta(seconds=4.9) < datetime.fromisoformat(sent) - before < timedelta(seconds=6)


def test_a_read_takes_no_deadline() -> None:
    with pytest.raises(ValidationFailed, match="deadline"):
        prepare("t", "session.get", {"session_id": "s"}, deadline=5)


@pytest.mark.parametrize(
    ("name", "arguments", "given", "priority"),
    [
        ("session.touch", {"session_id": "s"}, None, 6),
        ("session.touch", {"session_id": "s"}, "critical", 0),
        ("session.touch", {"session_id": "s"}, "low", 9),
        ("session.create", {"priority": "high"}, None, 3),
        ("session.create", {"priority": "high"}, "low", 9),
        ("session.list", {"priority": "high"}, None, 6),
    ],
)
def test_priorities_are_the_words_of_the_fleet(
    name: str, arguments: dict[str, Any], given: str | None, priority: int
) -> None:
    assert prepare("t", name, arguments, message_priority=given).priority == priority


def test_an_unknown_priority_is_refused() -> None:
    with pytest.raises(ValidationFailed, match="message_priority"):
        prepare("t", "session.create", {}, message_priority="urgent")


def test_queue_and_kind_come_from_the_message() -> None:
    assert prepare("t", "maintenance.cleanup_stale", {}).queue == "maintenance"
    assert prepare("t", "session.create", {}).queue == "sessions"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "session_id"),
        ({"session_id": "s", "sesion": 1}, "sesion"),
        ({"session_id": 5}, "session_id"),
        ({"session_id": ""}, "session_id"),
        ({"session_id": "a\x00b"}, "session_id"),
        ({"session_id": "\ud800"}, "session_id"),
    ],
)
def test_what_does_not_fit_is_named_before_it_is_sent(arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        prepare("t", "session.get", arguments)
    assert caught.value.details["fields"][0]["field"] == field


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1: 2}, "\x00", datetime(2026, 1, 1)])  # noqa: DTZ001
def test_what_json_cannot_hold_is_named_with_its_path(value: object) -> None:
    with pytest.raises(ValidationFailed, match=r"\$\.deep\[0\]"):
        prepare("t", "session.create", {"context": {"deep": [value]}})


def test_an_unknown_name_never_leaves() -> None:
    with pytest.raises(UnknownOperation) as caught:
        prepare("t", "session.creat", {})
    assert caught.value.details == {"operation": "session.creat"}


def test_sets_and_instants_become_json() -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    sent = prepare("t", "session.create", {"context": {"tags": {"b", "a"}, "at": at}}).arguments
    assert sent["context"] == {"tags": ["a", "b"], "at": "2026-01-02T00:00:00+00:00"}


def test_wire_names_of_nested_fields_survive() -> None:
    sent = prepare(
        "t", "session.emit_event", {"session_id": "s", "type": "new", "state_transition": {"from": "a", "to": "b"}}
    ).arguments
    assert sent["state_transition"] == {"from": "a", "to": "b"}
    CATALOGUE["session.emit_event"].parse(sent)


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_no_message_hides_an_option_of_call(name: str) -> None:
    assert not {"timeout", "deadline", "message_priority"} & set(CATALOGUE[name].model_fields)


def test_a_success_is_its_result() -> None:
    assert answer_of(ANY, {"status": "SUCCESS", "result": {"id": "x"}}) == {"id": "x"}


def test_a_typed_error_comes_back_as_its_class() -> None:
    shape = SessionNotFound(session_id="s").shape()
    with pytest.raises(SessionNotFound) as caught:
        answer_of(ANY, failed("SessionNotFound", shape))
    assert caught.value.shape() == shape


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_survives_the_wire(code: str) -> None:
    shape = CODES[code](message="m", field="f").shape()
    with pytest.raises(CODES[code]) as caught:
        answer_of(ANY, failed("X", shape))
    assert caught.value.shape() == shape


def test_a_code_of_a_newer_fleet_is_kept() -> None:
    shape = FleetError().shape() | {"code": "BRAND_NEW", "retryable": True}
    with pytest.raises(FleetError) as caught:
        answer_of(ANY, failed("BrandNew", shape))
    assert caught.value.code == "BRAND_NEW"


def test_a_stock_worker_that_knows_no_such_task() -> None:
    with pytest.raises(UnknownOperation):
        answer_of(ANY, failed("NotRegistered", "session.get"))


@pytest.mark.parametrize(
    "stored",
    [
        failed("WorkerLostError", "worker exited prematurely"),
        failed("TimeLimitExceeded", 300),
        failed("RuntimeError"),
        {"status": "REVOKED", "result": None},
        {"status": "FAILURE", "result": "what"},
        {"status": "FAILURE"},
    ],
)
def test_anything_else_is_internal_with_its_text(stored: dict[str, Any]) -> None:
    with pytest.raises(Internal) as caught:
        answer_of(ANY, stored)
    assert caught.value.details["task_id"] == "t"
    assert str(stored.get("result") or {}).count("worker exited") == str(caught.value).count("worker exited")


def test_pages_go_on_by_what_their_cursor_is() -> None:
    assert next_page({"limit": 2}, {"items": [1], "next_cursor": "abc"}) == {"limit": 2, "cursor": "abc"}
    assert next_page({}, {"items": [1], "next_cursor": 7}) == {"after_seq": 7}
    down = {"order": "desc", "after_seq": 2}
    assert next_page(down, {"items": [1], "next_cursor": 7}) == {**down, "before_seq": 7}
    assert next_page({}, {"items": [1], "next_cursor": None}) is None
    assert next_page({}, {"items": [], "next_cursor": "abc"}) is None


def test_messages_are_never_changed_by_sending() -> None:
    given = {"context": {"a": [1]}}
    prepare("t", "session.create", {**given})
    assert given == {"context": {"a": [1]}}
    assert issubclass(CATALOGUE["session.create"], Message)


def test_a_timeout_names_the_key_to_repeat_a_write_with_and_none_for_a_read() -> None:
    """B-13: a read has no key, and is repeated as it is."""
    late = prepare("t", "session.create", {}).timed_out(1.26)
    assert (late.details["idempotency_key"], late.details["seconds"]) == ("t", 1.3)
    assert "same idempotency key" in late.message
    assert prepare("t", "session.count", {}).timed_out(2).message == (
        "session.count gave no answer within 2 s. It may be repeated."
    )
