"""What does not fit is refused by the name of its field, in words a caller can act on (R-07)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionfleet.errors import InvalidSchedule, ValidationFailed
from sessionfleet.messages import CATALOGUE, message_type

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
    except (ValidationFailed, InvalidSchedule):
        return
    assert CATALOGUE[name].parse(message.arguments()) == message
