"""Whatever a raw producer sends, the answer is an answer or a typed error that is not INTERNAL (invariant 10)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery

from sessionfleet.errors import FleetError
from sessionfleet.messages import CATALOGUE
from tests.support import RunningFleet
from tests.support.asking import new

ODD: list[Any] = [
    None,
    True,
    0,
    -1,
    1,
    7,
    10**30,
    -(2**63),
    2**63 - 1,
    0.5,
    1e308,
    "",
    "x",
    "nul\x00",
    "\ud800",
    "é" * 300,
    "9" * 70000,
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "2026-03-29T01:30:00",
    "00000000-0000-0000-0000-000000000000",
    "active",
    "merge",
    "patch",
    [],
    [None],
    ["a", "a", "b"],
    ["x" * 255] * 3,
    [{"op": "add", "path": "/a", "value": 1}],
    [{"op": "copy", "from": "", "path": "/a"}] * 40,
    [{"op": "remove", "path": "/none"}],
    {},
    {"a": None},
    {"a": {"b": [1, {"c": None}]}},
    {"add": ["a"], "remove": ["b"]},
    {"set": None},
    {"": {"~/": [[]]}},
    {"big": 10**400},
    {"small": 5e-324},
    {"type": "x", "elementType": "e", "operation": "o", "to": "t", "severity": "low"},
    {"k" * 3000: "v"},
    {"deep": [[[[[[[[[[[[{}]]]]]]]]]]]]},
]
NAMES = sorted(name for name, kind in CATALOGUE.items() if kind.queue == "sessions")
MESSAGES = 900


@pytest.fixture
def producer(fleet: RunningFleet) -> Iterator[Celery]:
    urls = {"broker": fleet.settings.broker_url, "backend": fleet.settings.result_url}
    with Celery("elsewhere", set_as_current=False, **urls) as app:
        yield app


def arguments(chosen: random.Random, name: str, session_id: str) -> dict[str, Any]:
    """Some of the operation's own arguments with odd values. Three of four times they pass the first check,
    so that what comes after it is tried as well."""
    fields = sorted(CATALOGUE[name].model_fields)
    wanted = chosen.random() < 0.75
    for _ in range(60):
        some = chosen.sample(fields, chosen.randint(0, min(len(fields), 3)))
        picked = {field: chosen.choice(ODD) for field in some}
        if "session_id" in fields and chosen.random() < 0.9:
            picked["session_id"] = session_id
        if not wanted or fits(name, picked):
            break
    return picked


def fits(name: str, picked: dict[str, Any]) -> bool:
    try:
        CATALOGUE[name].parse(picked)
    except FleetError:
        return False
    return True


def test_no_message_ends_as_internal(fleet: RunningFleet, producer: Celery) -> None:
    chosen = random.Random(4)
    sessions = [new(fleet, user_id=str(uuid4()))["id"] for _ in range(20)]
    workers = {process.name: process.pid for process in fleet.processes}
    sent = []
    for _ in range(MESSAGES):
        name = chosen.choice(NAMES)
        kwargs = arguments(chosen, name, chosen.choice(sessions))
        sent.append((name, kwargs, producer.send_task(name, kwargs=kwargs, queue="sessions")))
    codes: Counter[str] = Counter()
    for name, kwargs, result in sent:
        answer = result.get(timeout=60, propagate=False)
        assert isinstance(answer, FleetError) or result.successful(), (name, kwargs, answer)
        code = answer.code if isinstance(answer, FleetError) else "ok"
        assert code not in ("INTERNAL", "UNAVAILABLE"), (name, kwargs, answer)
        codes[code] += 1
    assert min(codes["ok"], codes["VALIDATION_FAILED"]) > MESSAGES / 10, codes
    assert {process.name: process.pid for process in fleet.processes if process.running} == workers
