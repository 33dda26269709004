"""The five write modes of JSON documents (row B-01), each giving the new value and the RFC 6902
operations that lead to it (row B-14).

The operations are recorded while merging, so nothing has to be compared afterwards and replaying
them from creation gives the present document.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import jsonpatch
from jsonpointer import JsonPointerException, resolve_pointer

from sessionfleet.errors import PatchTestFailed, PayloadTooLarge, ValidationFailed
from sessionfleet.jsontext import encode
from sessionfleet.jsonvalue import jsonable
from sessions.change import Patch
from sessions.guards import json_size

LIST_LIMIT = 1000
"""Entries a metrics list keeps (B-06)."""

COPY_LIMIT = 16777216
"""Bytes one patch may copy: each `copy` can double a document, so thirty of them would fill the memory."""


def apply(mode: str, field: str, old: dict[str, Any], value: Any) -> tuple[dict[str, Any], Patch]:
    """``(new object, operations)``; the operations' paths start with ``/field``. ``old`` is untouched.

    Raises ValidationFailed for a value that does not fit, PatchTestFailed for a failed ``test``.
    """
    root = f"/{pointer(field)}"
    if mode == "patch":
        return _json_patch(field, root, old, value)
    if mode == "replace":
        return value, ([] if same(value, old) else [_op("replace", root, value)])
    if mode == "shallow":
        return _shallow(root, old, value)
    if mode == "append":
        return _append(field, root, old, value)
    return _merge(root, old, value)


def pointer(key: str) -> str:
    """One reference token of RFC 6901."""
    if "~" not in key and "/" not in key:
        return key
    return key.replace("~", "~0").replace("/", "~1")


def _op(op: str, path: str, value: Any) -> dict[str, Any]:
    return {"op": op, "path": path, "value": value}


def _set(patch: Patch, path: str, old: dict[str, Any], new: dict[str, Any], key: str, value: Any) -> None:
    if key in old and same(old[key], value):
        return
    patch.append(_op("replace" if key in old else "add", f"{path}/{pointer(key)}", value))
    new[key] = value


def same(left: Any, right: Any) -> bool:
    """Equal as JSON: ``True`` is not 1, however Python sees it."""
    return bool(left == right) and _same_kinds(left, right)


def _same_kinds(left: Any, right: Any) -> bool:
    """Of two values that Python takes for equal: nowhere is one a boolean and the other a number."""
    if isinstance(left, dict):
        return all(_same_kinds(value, right[key]) for key, value in left.items())
    if isinstance(left, list):
        return all(map(_same_kinds, left, right))
    return isinstance(left, bool) == isinstance(right, bool)


def _merge(path: str, old: dict[str, Any], change: dict[str, Any]) -> tuple[dict[str, Any], Patch]:
    """RFC 7396: objects merge deeply, null deletes, everything else replaces."""
    new, patch = dict(old), Patch()
    for key, value in change.items():
        if value is None:
            if key in new:
                del new[key]
                patch.append({"op": "remove", "path": f"{path}/{pointer(key)}"})
        elif isinstance(value, dict) and isinstance(old.get(key), dict):
            new[key], inner = _merge(f"{path}/{pointer(key)}", old[key], value)
            patch += inner
        else:
            _set(patch, path, old, new, key, _without_nulls(value))
    return new, patch


def _without_nulls(value: Any) -> Any:
    """A merge patch that meets no object of the target loses its nulls (RFC 7396, section 2)."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return value


def _shallow(path: str, old: dict[str, Any], change: dict[str, Any]) -> tuple[dict[str, Any], Patch]:
    new, patch = dict(old), Patch()
    for key, value in change.items():
        if value is None:
            if new.pop(key, None) is not None or key in old:
                patch.append({"op": "remove", "path": f"{path}/{pointer(key)}"})
        else:
            _set(patch, path, old, new, key, value)
    return new, patch


def _append(field: str, path: str, old: dict[str, Any], change: dict[str, Any]) -> tuple[dict[str, Any], Patch]:
    new, patch = dict(old), Patch()
    for key, value in change.items():
        here = f"{path}/{pointer(key)}"
        present = old.get(key)
        if isinstance(value, dict) and (present is None or isinstance(present, dict)):
            if present is None:
                patch.append(_op("add", here, {}))
            new[key], inner = _append(f"{field}.{key}", here, present or {}, value)
            patch += inner
        elif isinstance(value, list) and (present is None or isinstance(present, list)):
            if present is None:
                patch.append(_op("add", here, []))
            new[key] = [*(present or []), *value]
            patch += [_op("add", f"{here}/-", item) for item in value]
        else:
            raise ValidationFailed.of(f"{field}.{key}", "append takes a list for a list or an object for an object")
    return new, patch


def _json_patch(field: str, root: str, old: dict[str, Any], operations: Any) -> tuple[dict[str, Any], Patch]:
    try:
        new = _applied(field, old, operations)
    except jsonpatch.JsonPatchTestFailed as error:
        raise PatchTestFailed(field=field, reason=_short(error)) from None
    except (jsonpatch.JsonPatchException, JsonPointerException, TypeError, KeyError, AttributeError) as error:
        raise ValidationFailed.of(field, f"not an applicable RFC 6902 patch: {_short(error)}") from None
    if not isinstance(new, dict):
        raise ValidationFailed.of(field, "the patch must leave a JSON object")
    try:
        jsonable(new)  # operations on deep paths may have nested it beyond what a message can
    except ValueError as error:
        raise ValidationFailed.of(field, _short(error)) from None
    patch: Patch = []
    for operation in operations:
        moved = dict(operation, path=root + operation["path"])
        if operation["op"] in ("move", "copy"):
            moved["from"] = root + operation["from"]
        if operation["op"] != "test":
            patch.append(moved)
    return new, ([] if same(new, old) else patch)


def _applied(field: str, old: dict[str, Any], operations: Any) -> Any:
    new, copied = deepcopy(old), 0
    for operation in operations:
        step = jsonpatch.JsonPatch([operation])
        if operation["op"] == "copy":
            copied += json_size(resolve_pointer(new, operation["from"], None))
            if copied > COPY_LIMIT:
                raise PayloadTooLarge(field=field, size=copied, limit=COPY_LIMIT)
        new = step.apply(new, in_place=True)
    return new


def _short(error: Exception) -> str:
    # The library quotes whole documents.
    text = str(error)
    return text if len(text) <= 300 else f"{text[:300]}..."


def add_up(old: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Counters of B-06: numbers add, lists append and keep their last 1000, objects go deeper,
    anything else replaces. Adding commutes for numbers, whatever the order of callers. Raises ValidationFailed for a
    sum that JSON cannot hold."""
    new = dict(old)
    for key, value in change.items():
        present = old.get(key)
        if _number(value) and _number(present):
            new[key] = _sum(present, value)
        elif isinstance(value, list):
            new[key] = [*(present if isinstance(present, list) else ()), *value][-LIST_LIMIT:]
        elif isinstance(value, dict):
            new[key] = add_up(present if isinstance(present, dict) else {}, value)
        else:
            new[key] = value
    return new


def _sum(present: Any, more: Any) -> Any:
    try:
        return jsonable(present + more)
    except (OverflowError, ValueError) as error:
        raise ValidationFailed.of("metrics", f"a sum cannot be kept: {_short(error)}") from None


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def ordered_set(old: list[Any], add: list[str], remove: list[str], replace: list[str] | None) -> list[Any]:
    """An ordered set after ``set``, then ``remove``, then ``add``; first occurrence keeps its place (B-05). ``old``
    may hold any JSON values: a caller's context does."""
    base = old if replace is None else replace
    gone, kept = set(remove), dict[str | bytes, Any]()
    for item in base:
        name = item if isinstance(item, str) else encode(item)
        if name not in gone:
            kept.setdefault(name, item)
    for name in add:
        kept.setdefault(name, name)
    return list(kept.values())
