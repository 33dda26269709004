"""What is wrong with a value, in words that need no knowledge of Python, pydantic or regular expressions.

The only place where findings of pydantic become texts for people; a text says what to give instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_INSTANT = "must be an instant like 2026-03-29T12:30:00Z"
_DAY = "must be a day like 2026-03-29"
_UUID = "must be a uuid like 123e4567-e89b-12d3-a456-426614174000"

WORDS: Mapping[str, str] = {
    "missing": "is required",
    "extra_forbidden": "unknown argument",
    "none_required": "must be null or absent here",
    "literal_error": "must be {expected}",
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    **dict.fromkeys(("int_type", "int_parsing", "int_parsing_size", "int_from_float"), "must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    "finite_number": "must be a finite number",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_type": "must be text",
    "string_unicode": "must be text in Unicode",
    "string_too_short": "must have {min_length} or more characters",
    "string_too_long": "must have at most {max_length} characters",
    "list_type": "must be a list",
    "too_short": "must have {min_length} or more items",
    "too_long": "must have at most {max_length} items",
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "must be a JSON object"),
    "invalid_key": "must be text, as all names in an object",
    "datetime_type": _INSTANT,
    **dict.fromkeys(("datetime_parsing", "datetime_from_date_parsing"), _INSTANT + " ({error})"),
    "timezone_aware": "needs an offset from UTC, such as Z or +01:00",
    "date_type": _DAY,
    **dict.fromkeys(("date_parsing", "date_from_datetime_parsing"), _DAY + " ({error})"),
    "date_from_datetime_inexact": _DAY + ", without a time",
    **dict.fromkeys(("uuid_type", "uuid_parsing"), _UUID),
    "json_invalid": "is not JSON: {error}",
    "union_tag_not_found": "must have a {discriminator}",
    "union_tag_invalid": "its {discriminator} must be one of {expected_tags}",
}
"""Type of a finding -> its text, filled in from its context. A type that is not here keeps pydantic's text."""

PATTERNS: Mapping[str, str] = {
    r"^[a-z0-9_-]{1,64}$": "must be 1 to 64 characters from a-z, 0-9, _ and -",
    r"^[a-z0-9_]{1,64}$": "must be 1 to 64 characters from a-z, 0-9 and _",
    **dict.fromkeys((r"^[a-z_]{1,32}$", r"^[A-Za-z_]{1,32}$"), "must be a word of 1 to 32 letters from a-z and _"),
    r"^[A-Za-z0-9_.:-]{1,200}$": "must be 1 to 200 characters from A-Z, a-z, 0-9, _, ., : and -",
    r"^[A-Za-z0-9_.:-]{1,100}$": "must be 1 to 100 characters from A-Z, a-z, 0-9, _, ., : and -",
    r"^(retry/)?[0-9]{1,20}-[0-9]{1,20}$": "must be a stream_id as event.consume gives it",
    **dict.fromkeys((r"^[0-9]{1,18}$", r"^[0-9]{1,18}-[0-9]{1,18}$"), "is not a cursor this fleet gave out"),
}
"""Pattern of a text -> what it asks for."""


def reason(found: ErrorDetails) -> str:
    """The text of one finding, without the name of its field."""
    context = {name: _plain(value) for name, value in found.get("ctx", {}).items()}
    if (words := PATTERNS.get(str(context.get("pattern")))) is not None:
        return words
    if (words := WORDS.get(found["type"])) is not None:
        return words.format_map(context)
    return found["msg"].removeprefix("Value error, ")


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
