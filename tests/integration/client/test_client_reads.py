"""fleet.get: documents straight from the cache, and from a worker when it must be (rows B-10, Q-01)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from sessionfleet import AsyncFleet, Fleet
from sessionfleet.errors import SessionNotFound
from sessionfleet.servers import Servers
from tests.support import RunningFleet
from tests.support.asking import Document, new


@pytest.fixture
def alone(fleet: RunningFleet, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """A client that has no worker to ask."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a worker was asked")

    monkeypatch.setattr(fleet.client._remote.outbox, "put", refuse)
    return fleet.client


def entry(fleet: RunningFleet, session: Document, **changes: Any) -> None:
    """Writes other things into a cached document than a worker would."""
    document = {**json.loads(fleet.cache.get(f"sess:doc:{session['id']}")), **changes}
    fleet.cache.set(f"sess:doc:{session['id']}", json.dumps(document))


def test_a_cached_document_needs_no_worker(fleet: RunningFleet, request: pytest.FixtureRequest) -> None:
    session = new(fleet, context={"a": 1})
    document = fleet.call("session.get", session_id=session["id"])
    alone: Fleet = request.getfixturevalue("alone")
    assert alone.get(session["id"]) == alone.get(session["external_id"]) == document
    assert alone.get(session["id"], min_version=document["state_version"]) == document
    for needs_a_worker in ("nobody", session["id"].upper()):
        with pytest.raises(AssertionError):
            alone.get(needs_a_worker)


def test_own_writes_are_read_however_old_the_cache_is(fleet: RunningFleet) -> None:
    session = new(fleet)
    old = {**session, "revision": 10**6, "last_seq": 10**6}  # or the relay would mark it as stale
    written = fleet.call("session.update", session_id=session["id"], context={"mine": 1})
    fleet.cache.set(f"sess:doc:{session['id']}", json.dumps(old))
    assert fleet.client.get(session["id"])["context"] == {}
    assert fleet.call("session.get", session_id=session["id"])["context"] == {}
    read = fleet.client.get(session["id"], min_version=written["state_version"])
    assert (read["context"], read["state_version"]) == ({"mine": 1}, written["state_version"])


@pytest.mark.parametrize("left", ["missing", "corrupt", "of another release", "another type", "near its deadline"])
def test_anything_doubtful_goes_to_a_worker(fleet: RunningFleet, left: str) -> None:
    session = new(fleet)
    key = f"sess:doc:{session['id']}"
    if left == "near its deadline":
        entry(fleet, session, expires_at=session["created_at"], context={"wrong": 1})
    elif left == "of another release":
        fleet.cache.set(key, json.dumps({"revision": 1, "id": session["id"]}))
    else:
        with fleet.cache.pipeline() as at_once:  # the relay may write there at any time
            at_once.delete(key)
            if left == "corrupt":
                at_once.set(key, "{")
            elif left == "another type":
                at_once.lpush(key, "x")
            at_once.execute()
    read = fleet.client.get(session["id"])
    assert (read["id"], read["context"]) == (session["id"], {})


def test_a_deleted_session_is_not_found(fleet: RunningFleet) -> None:
    session = new(fleet)
    fleet.call("session.delete", session_id=session["id"])
    for name in (session["id"], session["external_id"]):
        with pytest.raises(SessionNotFound):
            fleet.client.get(name)


def test_without_the_cache_a_worker_answers(fleet: RunningFleet) -> None:
    session = new(fleet)
    servers = fleet.client.servers
    broken = Servers(servers.broker_url, servers.result_url, "redis://127.0.0.1:1/0", servers.channel_prefix)

    async def main() -> Document:
        async with AsyncFleet(broken) as client:
            document: Document = await client.get(session["id"])
            return document

    assert asyncio.run(main())["id"] == session["id"]
