"""What JSON and PostgreSQL's jsonb can hold, checked with the path of what they cannot (B-07).

Both ends use it: the client turns datetimes into ISO 8601 text with offset and sets into sorted
lists before a message leaves, the worker checks what raw producers sent.
"""

from __future__ import annotations

import math
from datetime import datetime
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

from pydantic import BeforeValidator

MOST_TEXT = 65536
"""Characters of a free text."""

MAX_DEPTH = 100
"""Levels of nesting; deeper values exhaust recursive readers on either side."""

MAX_DIGITS = 4300
"""Digits of a whole number; Python neither reads nor writes longer ones."""

_TOO_LONG = 10**MAX_DIGITS

WHOLE = 1e16
"""From here on JSON writes a float with an exponent, and jsonb gives a whole number back: of 1e23, as it is written,
one that is not equal to the float."""

_CARRIED = ("datetime", "date", "time", "decimal", "uuid", "bytes", "base64")
"""Celery's JSON writes Python values as {"__type__": one of these, "__value__": text}: an object that looks like
that would arrive as another value, and is refused rather than changed."""

Json = None | bool | int | float | str | list[Any] | dict[str, Any]


_Path = tuple[Any, str | int | None] | None
"""Where in a value: the way to what holds it, and its place there; None at the root. Text only for an error."""


def jsonable(value: Any, path: _Path = None, depth: int = 0) -> Any:
    """``value`` as JSON types only; raises ValueError naming the path of what JSON cannot hold.

    Strings may not contain NUL or lone surrogates (jsonb refuses both), numbers must be finite and whole ones end at
    :data:`MAX_DIGITS`, object keys must be text, nesting ends at :data:`MAX_DEPTH`. Zero has no sign, and a float
    from :data:`WHOLE` on is the whole number that it is: jsonb makes other ones of both.
    """
    kind = type(value)
    if kind is str:
        return _text(value, path)
    if value is None or kind is bool:
        return value
    if kind is int or kind is float:
        return _number(value, path)
    if depth >= MAX_DEPTH:
        raise _unfit(path, f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        if len(value) == 2 and value.get("__type__") in _CARRIED and "__value__" in value:
            raise _unfit(path, "a Celery message reads an object of __type__ and __value__ as something else")
        return {_key(k, path): jsonable(v, (path, k), depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(v, (path, i), depth + 1) for i, v in enumerate(value)]
    return _converted(value, path, depth)


def _converted(value: Any, path: _Path, depth: int) -> Any:
    """Python values with a fixed JSON form, and subclasses of the plain types."""
    if isinstance(value, set | frozenset):
        items = [jsonable(v, (path, None), depth + 1) for v in value]
        try:
            return sorted(items, key=lambda item: (type(item).__name__, item))
        except TypeError:  # lists whose items have no order among them
            return sorted(items, key=repr)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise _unfit(path, "a datetime needs a time zone")
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    for plain in (str, int, float):
        if isinstance(value, plain):
            return jsonable(plain(value.value if isinstance(value, Enum) else value), path, depth)
    raise _unfit(path, f"{type(value).__name__} is not a JSON value")


def _number(value: float, path: _Path) -> float:
    if isinstance(value, int):
        if -_TOO_LONG < value < _TOO_LONG:
            return value
        raise _unfit(path, f"a whole number of more than {MAX_DIGITS} digits")
    if math.isfinite(value):
        return value + 0.0 if abs(value) < WHOLE else int(value)  # plus zero: a negative one becomes zero
    raise _unfit(path, f"{value!r} is not a JSON number")


def _text(value: str, path: _Path) -> str:
    if "\x00" in value:
        raise _unfit(path, "text with a NUL character cannot be stored")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _unfit(path, "text with a lone surrogate is not valid Unicode") from None
    return value


def told(text: str) -> str:
    """Words of an exception, which may hold anything, as text that can be stored: the rest of it as an escape."""
    return text.replace("\x00", r"\x00").encode(errors="backslashreplace").decode()[:MOST_TEXT]


def _key(key: Any, path: _Path) -> str:
    if not isinstance(key, str):
        raise _unfit(path, f"the key {key!r} is not text")
    return _text(key, path)


def _unfit(path: _Path, reason: str) -> ValueError:
    """The error of what is at ``path``, in the words ``$.key[index]{}``."""
    places: list[str] = []
    while path is not None:
        path, place = path
        places.append("{}" if place is None else f".{place}" if isinstance(place, str) else f"[{place}]")
    return ValueError(f"${''.join(reversed(places))}: {reason}")


def _object(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError("must be a JSON object")  # noqa: TRY004 - pydantic reports ValueError
    return jsonable(value)


JsonObject = Annotated[dict[str, Any], BeforeValidator(_object)]
"""A JSON object, checked all the way down."""

JsonValue = Annotated[Any, BeforeValidator(jsonable)]
"""Any JSON value, checked all the way down."""
