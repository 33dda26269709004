"""JSON text of messages and answers: the same values with orjson and without (rows B-07, R-11)."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sessionfleet import jsontext
from sessionfleet.jsonvalue import MAX_DEPTH


def can_be_text(value: Any) -> bool:
    """No lone surrogates: neither library writes them, and messages refuse them before."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
).filter(can_be_text)

EACH_WAY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
"""Which library is used is the same for all examples of a test."""


@pytest.fixture(params=["orjson", "standard library"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the extra ``fast`` and without it."""
    if request.param == "orjson":
        assert jsontext._orjson is not None, "the test environment has it"
    else:
        monkeypatch.setattr(jsontext, "_orjson", None)
    found: str = request.param
    return found


@EACH_WAY
@given(value=VALUES)
def test_what_is_written_is_read_again(library: str, value: Any) -> None:
    """B-07: equal, and of the same types: 1 and 1.0 are not the same JSON."""
    assert_same(jsontext.decode(jsontext.encode(value).decode()), value)
    assert_same(json.loads(jsontext.encode(value)), value)
    assert_same(jsontext.decode(json.dumps(value)), value)
    assert_same(jsontext.decode(jsontext.canonical(value).decode()), value)


def assert_same(found: Any, wanted: Any) -> None:
    assert found == wanted
    assert json.dumps(found, sort_keys=True) == json.dumps(wanted, sort_keys=True)


@EACH_WAY
@given(value=st.integers() | st.integers(min_value=2**63 - 2, max_value=2**64 + 2))
def test_integers_have_no_bound(library: str, value: int) -> None:
    """B-07: beyond 64 bits, which orjson does not know, in any place."""
    for place in (value, [value], {"a": {"b": [0, value]}}):
        assert_same(jsontext.decode(jsontext.encode(place).decode()), place)


@pytest.mark.parametrize(
    "number", ["1e2", "-0.0", "1.7976931348623157e308", "5e-324", "0.1", "123456789012345678901.5"]
)
def test_floats_are_read_as_the_standard_library_reads_them(library: str, number: str) -> None:
    assert repr(jsontext.decode(number)) == repr(json.loads(number))


@pytest.mark.parametrize("text", ["ü", "日本語", "🙂", "\x00\x1f\x7f", "\u2028\u2029", '"\\/', "é" * 1000])
def test_text_is_not_escaped_beyond_need(library: str, text: str) -> None:
    encoded = jsontext.encode({text: text})
    assert json.loads(encoded) == {text: text}
    if text.isprintable() and not set(text) & set('"\\'):
        assert encoded == f'{{"{text}":"{text}"}}'.encode()


def test_no_space_and_keys_in_their_order(library: str) -> None:
    assert jsontext.encode({"b": [1, 2], "a": {"d": None, "c": True}}) == b'{"b":[1,2],"a":{"d":null,"c":true}}'
    assert jsontext.canonical({"b": [1, 2], "a": {"d": None, "c": True}}) == b'{"a":{"c":true,"d":null},"b":[1,2]}'


@EACH_WAY
@given(
    value=st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=6).filter(can_be_text)
)
def test_equal_values_have_one_canonical_text(library: str, value: dict[str, Any]) -> None:
    """B-13: the digest of a body does not depend on the order in which its keys were given."""
    other = dict(reversed(list(value.items())))
    assert jsontext.canonical(value) == jsontext.canonical(other)


@EACH_WAY
@given(value=VALUES)
def test_what_is_encoded_stands_in_any_place(library: str, value: Any) -> None:
    """As if the value itself stood there, and also alone."""
    encoded = jsontext.Encoded(value)
    assert_same(encoded.value, value)
    assert jsontext.encode([encoded, {"a": encoded}]) == jsontext.encode([value, {"a": value}])
    assert_same(jsontext.plain({"items": [encoded]}), {"items": [value]})
    assert_same(jsontext.plain([encoded, 2**70]), [value, 2**70])


@EACH_WAY
@given(value=VALUES)
def test_fields_are_added_behind_what_is_encoded(library: str, value: Any) -> None:
    encoded = jsontext.Encoded({"a": value})
    assert encoded.with_fields({"b": [value]}).text == jsontext.encode({"a": value, "b": [value]})
    assert encoded.text == jsontext.encode({"a": value})


def test_identifiers_and_decimals_are_text(library: str) -> None:
    identifier = UUID("12345678-1234-8234-8234-123456789abc")
    assert json.loads(jsontext.encode([identifier, Decimal("1.50")])) == [str(identifier), "1.50"]


@pytest.mark.parametrize(
    "instant",
    [
        datetime(2026, 11, 26, 12, 0, tzinfo=UTC),
        datetime(2026, 11, 26, 12, 0, 1, 5, tzinfo=UTC),
        datetime(2026, 11, 26, 12, 0, tzinfo=timezone(timedelta(hours=-5, minutes=-30))),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ],
)
def test_instants_are_read_as_the_same_instant(library: str, instant: datetime) -> None:
    [found] = json.loads(jsontext.encode([instant]))
    assert datetime.fromisoformat(found) == instant
    assert found == instant.isoformat()


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", {"a": complex(1, 2)}])
def test_what_has_no_json_form_is_refused(library: str, value: Any) -> None:
    with pytest.raises(TypeError):
        jsontext.encode(value)
    with pytest.raises(TypeError):
        jsontext.canonical(value)


@EACH_WAY
@given(value=VALUES)
def test_the_canonical_text_of_json_types_is_the_same_either_way(library: str, value: Any) -> None:
    """B-13: or a TypeError, as for what is beyond one library's integers."""
    try:
        assert jsontext.canonical_json(value) == jsontext.canonical(value)
    except TypeError:
        assert library == "orjson"
    with pytest.raises(TypeError):
        jsontext.canonical_json([value, datetime(2026, 11, 26, tzinfo=UTC)])


@pytest.mark.parametrize("text", ["", "{", "[1,]", "nul", "[1] 2", "'a'", "12345678901234567,", "{1: 2}"])
def test_what_is_no_json_is_a_value_error(library: str, text: str) -> None:
    with pytest.raises(ValueError):
        jsontext.decode(text)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_does_not_have(library: str, number: float) -> None:
    """B-07: messages refuse them before they come here; here, too, nobody is sent what only Python can read."""
    for write in (jsontext.encode, jsontext.canonical):
        if library == "orjson":
            assert write([number]) == b"[null]"
        else:
            with pytest.raises(ValueError, match="not JSON compliant"):
                write([number])


def test_the_deepest_document_is_read(library: str) -> None:
    """B-07: as deep as messages allow, within an answer, its list and a stored result around it."""
    value: Any = 1
    for _ in range(MAX_DEPTH + 10):
        value = {"a": [value]} if isinstance(value, int) else {"a": value}
    assert jsontext.decode(jsontext.encode(value)) == value
