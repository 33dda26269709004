"""Arguments that no caller should give, and what some of them give all the same: typed errors, nothing half done."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from sessionfleet import AsyncFleet, Fleet
from sessionfleet.errors import ValidationFailed
from tests.integration.client.test_calls import urls
from tests.support import RunningFleet


def field(call: Callable[[], Any]) -> str:
    """The field that is refused."""
    with pytest.raises(ValidationFailed) as caught:
        call()
    return str(caught.value.details["fields"][0]["field"])


@pytest.mark.parametrize("seconds", [1e10, 1e300, math.inf])
def test_to_wait_for_ever(fleet: RunningFleet, seconds: float) -> None:
    """More than a thread can wait for is as long as it can."""
    client = fleet.client
    session_id = client.call("session.create", seconds)["id"]
    assert client.submit("session.touch", session_id=session_id).result(seconds)["id"] == session_id
    with client.batch(timeout=seconds) as batch:
        assert batch.add("session.touch", session_id=session_id).result(seconds)["id"] == session_id
    with Fleet.connect(**urls(fleet), buffer=1) as patient:
        assert patient.flush(seconds) == []

    async def go() -> Any:
        async with AsyncFleet.connect(**urls(fleet)) as other:
            return await other.call("session.get", seconds, session_id=session_id)

    assert asyncio.run(go())["id"] == session_id


@pytest.mark.parametrize("seconds", [1e12, -1e12, math.inf, math.nan])
def test_a_deadline_that_is_no_instant(fleet: RunningFleet, seconds: float) -> None:
    assert field(lambda: fleet.client.send("session.create", deadline=seconds)) == "deadline"


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan])
def test_no_time_to_send(fleet: RunningFleet, seconds: float) -> None:
    assert field(lambda: Fleet.connect(**urls(fleet), submit_timeout=seconds)) == "submit_timeout"


@pytest.mark.parametrize("name", ["\ud800", "a\x00b", "", "x" * 277, None, 7, UUID(int=1)])
def test_what_names_no_session(fleet: RunningFleet, name: Any) -> None:
    client = fleet.client
    follow: list[Callable[..., Any]] = [client.get, client.output, client.frames]
    if name is not None:
        follow.append(client.subscribe)
    for call in follow:
        assert field(lambda call=call: call(name)) == "session_id"  # type: ignore[misc]


@pytest.mark.parametrize("version", [-1, None, "one"])
def test_what_is_no_version(fleet: RunningFleet, version: Any) -> None:
    assert field(lambda: fleet.client.get("s", version)) == "min_version"


def test_one_type_is_no_list(fleet: RunningFleet) -> None:
    """Its letters are no types: nothing would ever come."""
    assert field(lambda: fleet.client.subscribe(types="session.created")) == "types"


@pytest.mark.parametrize("seconds", [0, -1, math.nan])
def test_pings_without_a_pause(fleet: RunningFleet, seconds: float) -> None:
    assert field(lambda: fleet.client.subscribe(ping=seconds)) == "ping"


def test_what_names_no_consumer(fleet: RunningFleet) -> None:
    for name in ("\ud800", "x" * 256):
        assert field(lambda name=name: fleet.client.consume("session_handlers", name)) == "consumer"  # type: ignore[misc]


WORDS = [("a\x00b", r"a\x00b"), ("a\udcffb", r"a\udcffb"), ("x" * 70_000, None)]
"""What exceptions say, and as what it is kept."""


@pytest.mark.parametrize(("said", "kept"), WORDS, ids=["NUL", "surrogate", "long"])
def test_whatever_an_exception_says(fleet: RunningFleet, said: str, kept: str | None) -> None:
    """A file's name that is no UTF-8 is in the text of its error with lone surrogates."""
    with pytest.raises(ValueError, match=r"."), fleet.client.session_scope() as session:
        raise ValueError(said)
    document = fleet.call("session.get", session_id=session["id"])
    assert document["status"] == "failed"
    if kept:
        assert document["error_message"] == f"ValueError: {kept}"


@pytest.mark.parametrize(("said", "kept"), WORDS, ids=["NUL", "surrogate", "long"])
def test_whatever_became_of_an_event(fleet: RunningFleet, said: str, kept: str | None) -> None:
    fleet.call("session.create")
    with fleet.client.consume("git_monitors", batch=1, timeout=20) as consumer:
        assert next(consumer).fail(said) is False, "it is given out again"
