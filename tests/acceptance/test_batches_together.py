"""Waiting messages of ``session.apply`` share transactions with each other and with single operations, and each of
them stays what it promises to be by itself (rows A-19, B-13)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.support import RunningFleet
from tests.support.asking import Document, codes, event_names, get, new, stored
from tests.support.batching import at_once, transactions
from tests.support.private import private_fleets

Call = tuple[str, Document]


@pytest.fixture(scope="module")
def single() -> Iterator[RunningFleet]:
    """A fleet with one sessions worker, which takes all that waits."""
    with private_fleets() as make:
        yield make(sessions=1, relay=1)


def update(key: str, **context: Any) -> Call:
    return "session.update", {"session_id": key, "context": context}


def refused(key: str) -> Call:
    return "session.update", {"session_id": key, "expected_version": 99, "model": "never"}


def apply(*steps: Call, whole: str = "session", **more: Any) -> Call:
    operations = [{"name": name, "arguments": arguments} for name, arguments in steps]
    return "session.apply", {"operations": operations, "whole": whole, **more}


def words(answer: Document) -> list[str]:
    return ["ok" if item["ok"] else item["error"]["code"] for item in answer["items"]]


def test_small_batches_share_transactions(single: RunningFleet) -> None:
    """Ten of four operations and ten single ones, each with its own answers."""
    sessions = [new(single)["id"] for _ in range(20)]
    calls = [apply(*(update(sessions[n + k], by=n) for k in range(4))) for n in range(10)]
    calls += [update(session, single=True) for session in sessions[10:]]
    handles, answers = at_once(single, calls)
    assert codes(answers) == ["ok"] * 20
    for n, answer in enumerate(answers[:10]):
        assert (answer["applied"], answer["failed"]) == (4, 0)
        assert [item["answer"]["id"] for item in answer["items"]] == sessions[n : n + 4]
        assert {item["answer"]["context"]["by"] for item in answer["items"]} == {n}
    written = transactions(single, handles)
    assert set(written) == {handle.task_id for handle in handles}
    assert len(set(written.values())) <= 6, "twenty messages"


def test_what_one_undoes_was_never_there_for_those_behind_it(single: RunningFleet) -> None:
    """Wholes that fail, around them others on the same sessions, all of them waiting together."""
    one, two = new(single)["id"], new(single)["id"]
    before = stored(single, two)
    calls = [
        update(one, first=1),
        apply(update(one, lost=1), ("session.pause", {"session_id": one}), refused(one), update(two, lost=1)),
        apply(update(one, second=2), update(two, lost=2), refused(two), whole="batch"),
        apply(update(one, third=3), refused(one), update(two, third=3), whole="operation"),
        apply(update(one, fourth=4), update(two, fourth=4), whole="batch"),
        update(one, last=5),
    ]
    handles, answers = at_once(single, calls)
    assert words(answers[1]) == ["NOT_APPLIED", "NOT_APPLIED", "VERSION_CONFLICT", "ok"]
    assert words(answers[2]) == ["NOT_APPLIED", "NOT_APPLIED", "VERSION_CONFLICT"]
    assert words(answers[3]) == ["ok", "VERSION_CONFLICT", "ok"]
    assert words(answers[4]) == ["ok", "ok"]
    assert answers[5]["context"] == {"first": 1, "third": 3, "fourth": 4, "last": 5}
    assert get(single, one)["context"] == answers[5]["context"]
    assert get(single, two)["context"] == {"lost": 1, "third": 3, "fourth": 4}
    assert get(single, one)["status"] == "active"
    assert event_names(single, one)[-4:] == ["session.updated"] * 4
    after = stored(single, two)
    assert after["events"] - before["events"] == after["audited"] - before["audited"] == 3
    assert after["row"]["state_version"] == before["row"]["state_version"] + 3
    assert len(set(transactions(single, handles).values())) <= 3


def test_a_session_that_was_not_made_after_all(single: RunningFleet) -> None:
    """What is created in a whole that fails leaves its name to the next message."""
    name = f"made-{uuid4()}"
    create: Call = ("session.create", {"external_id": name, "status": "active"})
    calls = [
        apply(create, refused(name)),
        update(name, early=True),
        apply(create, update(name, second=True), whole="batch"),
        update(name, late=True),
    ]
    _, answers = at_once(single, calls)
    assert words(answers[0]) == ["NOT_APPLIED", "VERSION_CONFLICT"]
    assert codes(answers[1:2]) == ["SESSION_NOT_FOUND"]
    assert words(answers[2]) == ["ok", "ok"]
    assert answers[3]["context"] == {"second": True, "late": True}
    assert event_names(single, name) == ["session.created", "session.started", *["session.updated"] * 2]


def test_a_batch_and_its_repeat_wait_together(single: RunningFleet) -> None:
    """B-13: one effect; what failed is tried again and finds what came between."""
    one, key = new(single)["id"], f"k-{uuid4()}"
    version = get(single, one)["state_version"]
    tried: Call = ("session.update", {"session_id": one, "expected_version": version + 2, "model": "m"})
    batch = apply(update(one, n=1), tried, whole="operation", idempotency_key=key)
    _, answers = at_once(single, [batch, update(one, between=True), batch])
    assert [words(answers[place]) for place in (0, 2)] == [["ok", "VERSION_CONFLICT"], ["ok", "ok"]]
    first, again = (answers[place]["items"][0]["answer"] for place in (0, 2))
    assert again == {**first, "replayed": True}
    document = get(single, one)
    assert (document["model"], document["context"]) == ("m", {"n": 1, "between": True})
    assert document["state_version"] == version + 3
