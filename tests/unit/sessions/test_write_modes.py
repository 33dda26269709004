"""The five write modes (B-01, B-05, B-06) and the operations they record (B-14)."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionfleet.errors import FleetError, PatchTestFailed, ValidationFailed
from sessions import patches

scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x", "é"])
keys = st.sampled_from(["a", "b", "c", "", "~", "/", "~1", "-", "0"])
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))
objects = st.dictionaries(keys, values, max_size=4)

# RFC 7396, appendix A; top-level values that are no objects stand under a key.
VECTORS = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"k": ["a", "b"]}, {"k": ["c", "d"]}, {"k": ["c", "d"]}),
    ({"k": {"a": "b"}}, {"k": ["c"]}, {"k": ["c"]}),
    ({"k": {"a": "foo"}}, {"k": None}, {}),
    ({"k": {"a": "foo"}}, {"k": "bar"}, {"k": "bar"}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({"k": [1, 2]}, {"k": {"a": "b", "c": None}}, {"k": {"a": "b"}}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


def rfc7396(target: Any, patch: Any) -> Any:
    """MergePatch as the RFC writes it down."""
    if not isinstance(patch, dict):
        return patch
    target = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = rfc7396(target.get(name), value)
    return target


def exact(value: Any) -> str:
    """Text that differs where JSON differs: true is not 1."""
    return json.dumps(value, sort_keys=True)


def replayed(old: dict[str, Any], patch: patches.Patch) -> dict[str, Any]:
    return jsonpatch.apply_patch({"context": deepcopy(old)}, deepcopy(patch))["context"]


@pytest.mark.parametrize(("old", "change", "new"), VECTORS)
def test_merge_gives_the_results_of_the_rfc(old: dict[str, Any], change: dict[str, Any], new: dict[str, Any]) -> None:
    result, patch = patches.apply("merge", "context", old, change)

    assert result == new
    assert replayed(old, patch) == new


@given(objects, objects)
def test_merge_is_the_algorithm_of_the_rfc(old: dict[str, Any], change: dict[str, Any]) -> None:
    assert exact(patches.apply("merge", "context", old, change)[0]) == exact(rfc7396(old, change))


@given(st.sampled_from(["merge", "shallow", "replace"]), objects, objects)
def test_recorded_operations_lead_from_old_to_new(mode: str, old: dict[str, Any], change: dict[str, Any]) -> None:
    before = deepcopy(old)
    new, patch = patches.apply(mode, "context", old, change)

    assert old == before
    assert exact(replayed(old, patch)) == exact(new)
    assert bool(patch) == (exact(old) != exact(new))


@given(objects, objects)
def test_shallow_replaces_top_level_keys_whole(old: dict[str, Any], change: dict[str, Any]) -> None:
    new, _ = patches.apply("shallow", "context", old, change)

    kept = {key: value for key, value in old.items() if key not in change}
    assert exact(new) == exact({**kept, **{key: value for key, value in change.items() if value is not None}})


def test_merge_of_equal_values_records_nothing() -> None:
    document = {"a": {"b": [1, {"c": None}]}, "d": 1}

    for mode in ("merge", "shallow", "replace"):
        same = {"d": 1} if mode == "merge" else document
        assert patches.apply(mode, "context", document, same)[1] == []


@pytest.mark.parametrize("mode", ["merge", "shallow", "replace"])
def test_true_is_not_one(mode: str) -> None:
    new, patch = patches.apply(mode, "context", {"a": 1}, {"a": True})

    assert new["a"] is True
    assert patch


def test_patch_records_what_it_did_without_its_tests() -> None:
    old = {"a": {"b": 1}, "list": [1, 2]}
    operations = [
        {"op": "test", "path": "/a/b", "value": 1},
        {"op": "move", "from": "/a/b", "path": "/c"},
        {"op": "copy", "from": "/list/0", "path": "/list/-"},
        {"op": "remove", "path": "/a"},
        {"op": "add", "path": "/~01~1", "value": None},
        {"op": "replace", "path": "/c", "value": 2},
    ]

    new, patch = patches.apply("patch", "context", old, operations)

    assert new == {"c": 2, "list": [1, 2, 1], "~1/": None}
    assert [step["op"] for step in patch] == ["move", "copy", "remove", "add", "replace"]
    assert replayed(old, patch) == new


@given(objects, objects)
def test_any_patch_between_two_documents_replays(old: dict[str, Any], wanted: dict[str, Any]) -> None:
    new, patch = patches.apply("patch", "context", old, jsonpatch.make_patch(old, wanted).patch)

    assert new == wanted
    assert replayed(old, patch) == wanted


@pytest.mark.parametrize("wrong", [1, "x", None, {"b": 1}, True])
def test_a_failed_test_is_typed_and_short(wrong: Any) -> None:
    old = {"a": 2, "big": "x" * 100_000}

    with pytest.raises(PatchTestFailed) as failed:
        patches.apply("patch", "context", old, [{"op": "test", "path": "/a", "value": wrong}])

    assert failed.value.details["field"] == "context"
    assert len(failed.value.message) < 1000


json_ops = st.fixed_dictionaries(
    {},
    optional={
        "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "x"]) | scalars,
        "path": st.sampled_from(["", "/", "/a", "/a/b", "/a/-", "/a/0", "/a/01", "/~2", "a", "/a/-1"]) | scalars,
        "from": st.sampled_from(["", "/a", "/a/0", "/b/c"]) | scalars,
        "value": values,
    },
)


@given(objects, st.lists(json_ops | scalars, max_size=4))
def test_no_patch_does_worse_than_a_typed_error(old: dict[str, Any], operations: list[Any]) -> None:
    before = deepcopy(old)
    try:
        new, patch = patches.apply("patch", "context", old, operations)
    except (ValidationFailed, PatchTestFailed):
        assert old == before
    else:
        assert exact(replayed(old, patch)) == exact(new)


@pytest.mark.parametrize("stray", [None, 7, "/a"])
def test_a_from_that_means_nothing_is_no_error(stray: Any) -> None:
    """RFC 6902, section 4: members that an operation does not define are ignored."""
    new, patch = patches.apply("patch", "context", {}, [{"op": "add", "path": "/b", "value": 1, "from": stray}])
    assert new == {"b": 1}
    assert replayed({}, patch) == new


def test_copies_cannot_grow_without_bound() -> None:
    doubling = [{"op": "copy", "from": "", "path": f"/{n}"} for n in range(60)]

    with pytest.raises(FleetError) as refused:
        patches.apply("patch", "context", {"a": "x" * 1000}, doubling)
    assert refused.value.code in ("PAYLOAD_TOO_LARGE", "VALIDATION_FAILED")


def test_a_patch_cannot_nest_deeper_than_json_may() -> None:
    deep: Any = {}
    for _ in range(98):
        deep = {"a": deep}
    path = "/a" * 98

    with pytest.raises(ValidationFailed) as refused:
        patches.apply("patch", "context", deep, [{"op": "add", "path": f"{path}/a", "value": {"b": {"c": {}}}}])
    assert "nested deeper" in refused.value.message


@given(st.lists(st.tuples(keys, st.lists(scalars, max_size=2)), max_size=4), objects)
def test_append_keeps_all_that_was_appended(calls: list[tuple[str, list[Any]]], start: dict[str, Any]) -> None:
    old = {key: value for key, value in start.items() if isinstance(value, list)}
    document = old
    for key, items in calls:
        document, patch = patches.apply("append", "context", document, {key: items})
        old = replayed(old, patch)

    assert exact(old) == exact(document)
    for key, value in document.items():
        appended = [item for name, items in calls if name == key for item in items]
        assert exact(value[len(value) - len(appended) :]) == exact(appended)


def test_append_goes_into_objects_and_refuses_scalars() -> None:
    new, _ = patches.apply("append", "context", {"a": {"l": [1]}}, {"a": {"l": [2], "m": [3]}})
    assert new == {"a": {"l": [1, 2], "m": [3]}}

    for change in ({"a": 1}, {"a": [1]}, {"a": {"l": {}}}):
        with pytest.raises(ValidationFailed) as refused:
            patches.apply("append", "context", {"a": {"l": [1]}}, change)
        assert refused.value.details["fields"][0]["field"].startswith("context.a")


counters = st.dictionaries(
    st.sampled_from(["total_duration_ms", "api_call_count", "token_usage", "free"]),
    st.integers(-100, 100),
    max_size=4,
)


@given(counters, st.lists(counters, max_size=4), st.randoms())
def test_counters_add_up_in_any_order(start: dict[str, int], changes: list[dict[str, int]], random: Any) -> None:
    shuffled = list(changes)
    random.shuffle(shuffled)
    one, other = start, start
    for change, also in zip(changes, shuffled, strict=True):
        one, other = patches.add_up(one, change), patches.add_up(other, also)

    assert one == other
    assert sum(one.values()) == sum(sum(each.values()) for each in [start, *changes])


def test_metric_lists_keep_their_last_thousand() -> None:
    first = patches.add_up({}, {"account_processing_times_ms": list(range(1500))})
    again = patches.add_up(first, {"account_processing_times_ms": [1500, 1501]})

    assert first["account_processing_times_ms"] == list(range(500, 1500))
    assert again["account_processing_times_ms"] == list(range(502, 1502))


@pytest.mark.parametrize("before", [{}, {"by_tool": 1}, {"by_tool": {}}, {"by_tool": {"bash": "none"}}])
def test_a_list_within_metrics_is_kept_to_the_same_length(before: dict[str, Any]) -> None:
    """B-06: also the first time, and where something else was."""
    new = patches.add_up(before, {"by_tool": {"bash": list(range(1500))}})
    assert new == {"by_tool": {"bash": list(range(500, 1500))}}


def test_metrics_of_other_kinds_replace_and_objects_go_deeper() -> None:
    old = {"by_tool": {"bash": 1}, "note": "a", "flag": True, "n": 1}

    new = patches.add_up(old, {"by_tool": {"bash": 2, "edit": 1}, "note": "b", "flag": True, "n": 0.5})

    assert new == {"by_tool": {"bash": 3, "edit": 1}, "note": "b", "flag": True, "n": 1.5}
    assert old["by_tool"] == {"bash": 1}


@pytest.mark.parametrize(
    ("old", "more"), [(1e308, 1e308), (10**400, 0.5), (10**4300 - 1, 1)], ids=["infinite", "mixed", "digits"]
)
def test_a_sum_that_json_cannot_hold_is_refused(old: float, more: float) -> None:
    with pytest.raises(ValidationFailed) as caught:
        patches.add_up({"by_tool": {"bash": old}}, {"by_tool": {"bash": more}})
    assert caught.value.details["fields"][0]["field"] == "metrics"


names = st.lists(st.sampled_from(["1", "2", "3", "4"]), max_size=6)


@given(names, names, names, st.none() | names)
def test_an_ordered_set_has_no_doubles_and_keeps_places(
    old: list[str], add: list[str], remove: list[str], replace: list[str] | None
) -> None:
    new = patches.ordered_set(old, add, remove, replace)

    base = old if replace is None else replace
    kept = [name for name in dict.fromkeys(base) if name not in remove]
    assert len(new) == len(set(new))
    assert new[: len(kept)] == kept
    assert set(new) == set(kept) | set(add)


def test_an_ordered_set_takes_whatever_lies_there_already() -> None:
    """B-05: an account list in a context may hold any JSON; true is not 1."""
    old: list[Any] = [{"id": 1}, 1, True, "1", {"id": 1}, [None]]
    assert patches.ordered_set(old, ["1", "2"], ["3"], None) == [{"id": 1}, 1, True, "1", [None], "2"]
