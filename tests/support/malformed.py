"""Messages nobody should send: a good one with one thing wrong, and good ones with a few bytes changed."""

from __future__ import annotations

import base64
import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

Message = dict[str, Any]


def task_message(id_: str, *args: Any, task: str = "note", queue: str = "celery") -> Message:
    """A task message as Celery's protocol 2 has it, before it is made JSON."""
    body = json.dumps([list(args), {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    return {
        "body": base64.b64encode(body.encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": task,
            "id": id_,
            "shadow": None,
            "eta": None,
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": 0,
            "timelimit": [None, None],
            "root_id": id_,
            "parent_id": None,
            "argsrepr": repr(args),
            "kwargsrepr": "{}",
            "origin": "test",
            "ignore_result": True,
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
        },
        "properties": {
            "correlation_id": id_,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": f"tag-{id_}",
        },
    }


def _body(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


def _header(name: str, value: Any) -> Callable[[Message], Any]:
    return lambda message: message["headers"].__setitem__(name, value)


def _part(name: str, value: Any) -> Callable[[Message], Any]:
    return lambda message: message.__setitem__(name, value)


def _property(name: str, value: Any) -> Callable[[Message], Any]:
    return lambda message: message["properties"].__setitem__(name, value)


CHANGES: dict[str, Callable[[Message], Any]] = {
    "bad base64": _part("body", "%%%=a"),
    "unknown body_encoding": _property("body_encoding", "rot13"),
    "body_encoding a number": _property("body_encoding", 7),
    "headers a list": _part("headers", ["task"]),
    "headers a text": _part("headers", "task"),
    "headers null": _part("headers", None),
    "headers missing": lambda message: message.pop("headers"),
    "no body": lambda message: message.pop("body"),
    "body null": _part("body", None),
    "body a list": _part("body", [1]),
    "body empty": _part("body", ""),
    "body one value": _part("body", _body(7)),
    "body a pair": _part("body", _body([[], {}])),
    "body args an object": _part("body", _body([{"a": 1}, {}, {}])),
    "body kwargs a list": _part("body", _body([[], [1], {}])),
    "body embed a list": _part("body", _body([[1], {}, []])),
    "body not JSON": _part("body", base64.b64encode(b"\xff\xfe").decode()),
    "body deep": _part("body", base64.b64encode(b"[" * 100_000 + b"]" * 100_000).decode()),
    "task a list": _header("task", ["note"]),
    "task missing": lambda message: message["headers"].pop("task"),
    "task null": _header("task", None),
    "task unknown": _header("task", "no.such.task"),
    "id an object": _header("id", {"a": 1}),
    "id missing": lambda message: message["headers"].pop("id"),
    "id null": _header("id", None),
    "timelimit a text": _header("timelimit", "soon"),
    "timelimit texts": _header("timelimit", ["a", "b"]),
    "timelimit negative": _header("timelimit", [-1, -1]),
    "eta nonsense": _header("eta", "when it suits"),
    "eta a list": _header("eta", [1]),
    "eta beyond time": _header("eta", "9999-12-31T23:59:59-23:00"),
    "expires nonsense": _header("expires", "never"),
    "expires in the past": _header("expires", "2001-01-01T00:00:00+00:00"),
    "retries a text": _header("retries", "many"),
    "stamps a text": _header("stamped_headers", "abc"),
    "stamps numbers": _header("stamped_headers", [1, {}]),
    "compression unknown": _header("compression", "lzw"),
    "content type pickle": _part("content-type", "application/x-python-serialize"),
    "content type foreign": _part("content-type", "text/poetry"),
    "content type a number": _part("content-type", 5),
    "content encoding foreign": _part("content-encoding", "klingon"),
    "no properties": lambda message: message.pop("properties"),
    "properties a list": _part("properties", []),
    "no delivery_tag": lambda message: message["properties"].pop("delivery_tag"),
    "delivery_tag a number": _property("delivery_tag", 1),
    "no delivery_info": lambda message: message["properties"].pop("delivery_info"),
    "delivery_info a text": _property("delivery_info", "q"),
    "priority a text": _property("priority", "high"),
    "reply_to a list": _property("reply_to", [1]),
}
"""What is wrong -> how it is done."""

WHOLE: dict[str, bytes] = {
    "not JSON": b"hello",
    "empty": b"",
    "not text": b"\xff\x00\xfe",
    "a list": b"[1, 2]",
    "null": b"null",
    "a number": b"17",
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "deep object": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "cut": json.dumps(task_message("cut", "cut")).encode()[:300],
    "a type of kombu": b'{"__type__": "datetime", "__value__": "tomorrow"}',
}


def shapes(queue: str = "celery", task: str = "note") -> dict[str, bytes]:
    """Every malformed message by what is wrong with it, for one queue and an existing task."""
    made = dict(WHOLE)
    for name, change in CHANGES.items():
        message = copy.deepcopy(task_message(f"shape {name}", name, task=task, queue=queue))
        change(message)
        made[name] = json.dumps(message).encode()
    return made


def flipped(count: int, seed: int, queue: str = "celery", task: str = "note") -> Iterator[bytes]:
    """Good messages in which one to eight bytes were changed, the same for the same seed."""
    random_ = random.Random(seed)
    for number in range(count):
        raw = bytearray(json.dumps(task_message(f"flip-{number}", number, task=task, queue=queue)).encode())
        for _ in range(random_.choice((1, 1, 1, 2, 4, 8))):
            place = random_.randrange(len(raw))
            raw[place] = random_.choice((raw[place] ^ (1 << random_.randrange(8)), random_.randrange(256)))
        yield bytes(raw)
