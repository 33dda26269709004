"""The JSON Schema of CloudEvents 1.0, and what the specification asks beyond it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from jsonschema import Draft7Validator, FormatChecker

SCHEMA: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "type": "object",
    "properties": {
        "id": {"type": "string", "minLength": 1},
        "source": {"type": "string", "format": "uri-reference", "minLength": 1},
        "specversion": {"type": "string", "minLength": 1},
        "type": {"type": "string", "minLength": 1},
        "datacontenttype": {"type": ["string", "null"], "minLength": 1},
        "dataschema": {"type": ["string", "null"], "format": "uri", "minLength": 1},
        "subject": {"type": ["string", "null"], "minLength": 1},
        "time": {"type": ["string", "null"], "format": "date-time", "minLength": 1},
        "data": {"type": ["object", "string", "number", "array", "boolean", "null"]},
        "data_base64": {"type": ["string", "null"], "contentEncoding": "base64"},
    },
    "required": ["id", "source", "specversion", "type"],
}

_FORMATS = FormatChecker(formats=())
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


@_FORMATS.checks("date-time")
def is_instant(value: object) -> bool:
    return not isinstance(value, str) or _RFC3339.fullmatch(value) is not None


@_FORMATS.checks("uri-reference", raises=ValueError)
def is_reference(value: object) -> bool:
    if not isinstance(value, str):
        return True
    urlsplit(value)
    return re.fullmatch(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+", value) is not None


def check(event: dict[str, Any]) -> None:
    """Raises jsonschema's ValidationError or AssertionError for what is no CloudEvent 1.0."""
    Draft7Validator(SCHEMA, format_checker=_FORMATS).validate(event)
    assert event["specversion"] == "1.0"
    for name, value in event.items():
        assert re.fullmatch(r"[a-z0-9]{1,20}", name) or name == "data_base64", name
        if name != "data":
            assert isinstance(value, str), name
            assert value, name
            assert not re.search(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", value), name
    assert not {"data", "dataref"} <= event.keys()
    if "dataref" in event:
        assert is_reference(event["dataref"])
