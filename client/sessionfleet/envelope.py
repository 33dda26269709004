"""The message of a request: what any Celery worker of protocol 2 takes, written without Celery.

Keyword arguments only, JSON, no compression. Celery's own ``send_task`` costs a producer ten times as much.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sessionfleet.errors import ValidationFailed
from sessionfleet.jsontext import encode
from sessionfleet.request import Request

LARGEST = 64 * 1024 * 1024
"""Bytes of a message; workers put a larger one away unread."""

_EMBEDDED = '{"callbacks":null,"errbacks":null,"chain":null,"chord":null}'


@dataclass(frozen=True, slots=True)
class Letter:
    """A request and the message it is sent as, the same however often it is sent."""

    request: Request
    payload: bytes


def message_of(request: Request, reply_to: str | None) -> bytes:
    """The envelope as it lies in a queue's list. ``reply_to``: the channel for its answer; None: nobody waits.

    Raises :class:`ValidationFailed` beyond LARGEST.
    """
    headers: dict[str, Any] = {
        "lang": "py",
        "task": request.name,
        "id": request.task_id,
        "root_id": request.task_id,
        "parent_id": None,
        "group": None,
        "eta": None,
        "expires": None,
        "timelimit": [None, None],
        "retries": 0,
        "argsrepr": "()",
        "kwargsrepr": "{}",
        "origin": origin(),
        "ignore_result": reply_to is None,
    }
    payload = encode(
        {
            "body": f"[[],{encode(request.arguments).decode()},{_EMBEDDED}]",
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": {
                "correlation_id": request.task_id,
                "reply_to": reply_to,
                "delivery_mode": 2,
                "delivery_info": {"exchange": request.queue, "routing_key": request.queue},
                "priority": request.priority,
                "delivery_tag": request.task_id,
            },
        }
    )
    if len(payload) > LARGEST:
        raise ValidationFailed.of("arguments", f"a message of {len(payload)} bytes is larger than {LARGEST}")
    return payload


def origin() -> str:
    """Who sends, as Celery says it."""
    return _origin(os.getpid())


@lru_cache(maxsize=1)
def _origin(pid: int) -> str:
    return f"sessionfleet{pid}@{socket.gethostname()}"
