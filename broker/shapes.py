"""Is this a message Celery can take? Checked before anything of Celery sees it.

Stock consumers die of messages whose parts have unexpected types, some of them each time the message
comes back. What this refuses goes to quarantine with its reason. Whatever stock Celery would run passes.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

_TEXTS = ("content-type", "content-encoding")
_NAMES = ("root_id", "parent_id", "group", "origin", "shadow", "lang", "argsrepr", "kwargsrepr")
_SCALARS = (str, int, float, type(None))
_TEXT = (str, type(None))
_NUMBER = (int, type(None))
_OBJECT = (dict, type(None))


def flaw(message: Any) -> str | None:
    """What is wrong with a decoded message, or None for one that may be delivered.

    Looks at types only: JSON object, properties with routing key, body that can be read, headers in the
    shapes Celery's protocols 1 and 2 rely on.
    """
    if not isinstance(message, dict):
        return "not a JSON object"
    return _properties(message.get("properties")) or _content(message) or _headers(message.get("headers"))


def _properties(properties: Any) -> str | None:
    if not isinstance(properties, dict):
        return "no properties"
    info = properties.get("delivery_info")
    if not isinstance(info, dict) or not isinstance(info.get("routing_key"), str):
        return "no delivery_info with a routing_key"
    if not isinstance(info.get("exchange"), _TEXT):
        return "exchange is not text"
    for name in ("reply_to", "correlation_id"):
        if not isinstance(properties.get(name), _TEXT):
            return f"property {name} is not text"
    return None


def _content(message: dict[str, Any]) -> str | None:
    for name in _TEXTS:
        if not isinstance(message.get(name), _TEXT):
            return f"{name} is not text"
    body, encoding = message.get("body"), message["properties"].get("body_encoding")
    if not isinstance(body, str):
        return "no body"
    if not isinstance(encoding, str | None) or (encoding or "utf-8").lower() not in ("utf-8", "base64"):
        return f"unknown body_encoding {encoding!r}"
    if encoding and encoding.lower() == "base64":
        if encoding != "base64":
            return f"unknown body_encoding {encoding!r}"
        try:
            base64.b64decode(body)
        except (binascii.Error, ValueError):
            return "body is not base64"
    return None


def _headers(headers: Any) -> str | None:
    if headers is None:
        return None  # protocol 1 has none
    if not isinstance(headers, dict):
        return "headers are not an object"
    if not isinstance(headers.get("compression"), _TEXT):
        return "header compression is not text"
    return _task(headers) if "task" in headers else None


def _task(headers: dict[str, Any]) -> str | None:
    for name in ("task", "id"):
        if not isinstance(headers.get(name), str) or not headers[name]:
            return f"header {name} is not text"
    for name in _NAMES:
        if not isinstance(headers.get(name), _SCALARS):
            return f"header {name} has a wrong type"
    for name in ("eta", "expires"):
        if not isinstance(headers.get(name), _TEXT):
            return f"header {name} is not a time"
    return _limits(headers) or _stamps(headers)


def _limits(headers: dict[str, Any]) -> str | None:
    limits = headers.get("timelimit")
    if limits is not None and not (isinstance(limits, list) and len(limits) == 2 and all(map(_is_limit, limits))):
        return "header timelimit is not a pair of seconds"
    for name in ("retries", "group_index", "replaced_task_nesting"):
        if not isinstance(headers.get(name), _NUMBER):
            return f"header {name} is not a number"
    return None


def _is_limit(limit: Any) -> bool:
    return limit is None or (isinstance(limit, int | float) and not isinstance(limit, bool) and 0 <= limit < 1e9)


def _stamps(headers: dict[str, Any]) -> str | None:
    stamps = headers.get("stamped_headers")
    if stamps is not None and not (isinstance(stamps, list) and all(isinstance(stamp, str) for stamp in stamps)):
        return "stamped_headers is not a list of names"
    if not isinstance(headers.get("stamps"), _OBJECT):
        return "stamps is not an object"
    return None
