"""What does not fit is refused by the name of its field, in words a caller can act on (R-07)."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionfleet.errors import InvalidSchedule, ValidationFailed
from sessionfleet.frames import parse
from sessionfleet.messages import CATALOGUE, message_type
from sessionfleet.refusals import PATTERNS
from sessionfleet.schemas import schemas

S = {"session_id": "s"}


@pytest.mark.parametrize(
    ("name", "arguments", "field"),
    [
        ("session.list", {"status": "sleeping"}, "status"),
        ("session.list", {"status": ["sleeping"]}, "status"),
        ("session.update", {**S, "tags": {"add": [1]}}, "tags.add.0"),
        ("session.update", {**S, "tags": "x"}, "tags"),
        ("session.update", {**S, "context": 5}, "context"),
        ("session.update", {**S, "mode": "patch", "context": {}}, "context"),
        ("session.update", {**S, "mode": "replace", "context": {}}, "expected_version"),
        ("session.update", {**S, "mode": "flip"}, "mode"),
        ("session.update_context", {**S, "mode": "patch", "colour": 1}, "colour"),
        ("session.update_context", {**S, "metadata": 5, "colour": 1}, "metadata"),
        ("session.update_metrics", {**S, "metrics": [1]}, "metrics"),
        ("session.get", {**S, "include": ["x"]}, "include.0"),
        ("session.create", {"process_id": 0}, "process_id"),
        ("session.create", {"context": {"a": float("inf")}}, "context"),
        ("session.emit_event", {**S, "type": "x", "change_info": {"operation": "y"}}, "change_info.elementType"),
        ("session.emit_event", {**S, "type": "x", "state_transition": {"confidence": 2}}, "state_transition.to"),
    ],
)
def test_the_field_is_named(name: str, arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        message_type(name).parse(arguments)
    assert refused.value.details["fields"][0]["field"] == field
    assert refused.value.message.startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("session.get", {}, "session_id: is required"),
        ("session.get", {**S, "colour": 1}, "colour: unknown argument"),
        ("session.get", {"session_id": 5}, "session_id: must be text"),
        ("session.get", {"session_id": ""}, "session_id: must have 1 or more characters"),
        ("session.get", {"session_id": "x" * 277}, "session_id: must have at most 276 characters"),
        ("session.create", {"session_type": "A b"}, "session_type: must be 1 to 64 characters from a-z, 0-9 and _"),
        ("session.create", {"timeout_seconds": "soon"}, "timeout_seconds: must be a whole number"),
        ("session.create", {"timeout_seconds": 1.5}, "timeout_seconds: must be a whole number"),
        ("session.create", {"timeout_seconds": 0}, "timeout_seconds: must be at least 1"),
        ("session.create", {"process_id": 2**63}, "process_id: must be at most 9223372036854775807"),
        ("session.create", {"priority": "urgent"}, "priority: must be 'critical', 'high', 'medium' or 'low'"),
        ("session.create", {"id": "x"}, "id: must be a uuid like 123e4567-e89b-12d3-a456-426614174000"),
        ("session.update", {**S, "account_ids": 5}, "account_ids: must be a JSON object"),
        ("session.update", {**S, "account_ids": {1: 2}}, "account_ids.1: must be text, as all names in an object"),
        ("session.apply", {"operations": []}, "operations: must have 1 or more items"),
        ("session.apply", {"operations": [1]}, "operations.0: must be a JSON object"),
        ("session.apply", {"operations": 1}, "operations: must be a list"),
        ("session.list", {"include_deleted": "maybe"}, "include_deleted: must be true or false"),
        (
            "session.list",
            {"created_after": "2026-02-30T00:00:00Z"},
            "created_after: must be an instant like 2026-03-29T12:30:00Z (day value is outside expected range)",
        ),
        (
            "session.list",
            {"created_after": "2026-02-03T00:00:00"},
            "created_after: needs an offset from UTC, such as Z or +01:00",
        ),
        (
            "schedule.assign",
            {"owner_id": "o", "accounts": [{"account_id": "a", "risk_score": 100.5}]},
            "accounts.0.risk_score: must be at most 100",
        ),
        ("event.replay", {"cursor": "x"}, "cursor: is not a cursor this fleet gave out"),
    ],
)
def test_a_text_needs_no_python(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        message_type(name).parse(arguments)
    assert refused.value.message == message


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (7, "frame: must be a JSON object"),
        ("[]", "frame: must be a JSON object"),
        ("{", "frame: is not JSON: EOF while parsing an object at line 1 column 1"),
        ({}, "frame: must have a 'type'"),
        ({"type": "reboot"}, "frame: its 'type' must be one of 'get_status', 'input'"),
        ({"type": "input"}, "content: is required"),
    ],
)
def test_so_does_that_of_a_frame(sent: Any, message: str) -> None:
    with pytest.raises(ValidationFailed) as refused:
        parse(sent)
    assert refused.value.message == message


def test_every_pattern_of_the_contract_has_words() -> None:
    found = re.findall(r'"pattern": ("(?:[^"\\\\]|\\\\.)*")', json.dumps(schemas()))
    assert found
    assert {json.loads(one) for one in found} <= PATTERNS.keys()


FOREIGN = re.compile(
    r"(Input|String|List|Dictionary|Keys|Datetimes?) should|Field required|valid dictionary|Extra inputs"
)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.just("s")
    | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(CATALOGUE)), st.data())
def test_no_arguments_do_worse_than_a_typed_error(name: str, data: st.DataObject) -> None:
    """What a raw producer may send: known and unknown names with any values."""
    names = st.sampled_from([*CATALOGUE[name].model_fields, "nonsense"])
    arguments = data.draw(st.dictionaries(names, values, max_size=4))
    try:
        message = CATALOGUE[name].parse(arguments)
    except (ValidationFailed, InvalidSchedule) as error:
        text = error.message
    else:
        assert CATALOGUE[name].parse(message.arguments()) == message
        text = ""
    assert not FOREIGN.search(text)
