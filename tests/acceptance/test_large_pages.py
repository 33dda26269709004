"""What an answer carries is bounded by bytes too, however large its items are (rows Q-01..Q-04, C-02, D-13..D-15)."""

from __future__ import annotations

import json
import time
from typing import Any
from uuid import uuid4

import pytest
import redis

from sessionfleet.names import REPLIES
from sessionfleet.replies import CHECK_SECONDS
from tests.support import RunningFleet, eventually
from tests.support.asking import new, together
from tests.support.private import private_fleets

MIB = 1024 * 1024
MANY = 40
LARGE = {"text": "x" * (MIB - 100)}
"""Compresses well: 40 of them have half a megabyte in the table."""
MIXED = [{"text": "x" * (MIB - 100)}, {"text": "".join(map(str, range(170_000)))}, {"n": 1}]
"""The second is a megabyte in the table too."""


def size(answer: Any) -> int:
    return len(json.dumps(answer, ensure_ascii=False).encode())


def answers(fleet: RunningFleet, calls: list[tuple[str, Any]]) -> list[Any]:
    """What they answer, few on their way at a time: together they are more than a busy machine sends at once."""
    return [answer for at in range(0, len(calls), 4) for answer in together(fleet, calls[at : at + 4])]


def crowd(fleet: RunningFleet, **arguments: Any) -> list[str]:
    """MANY sessions with contexts of MIXED; ids, newest first."""
    calls = [("session.create", {"context": MIXED[n % 3], "status": "active", **arguments}) for n in range(MANY)]
    made = answers(fleet, calls)
    return [one["id"] for one in sorted(made, key=lambda one: (one["created_at"], one["id"]), reverse=True)]


@pytest.mark.parametrize("name", ["session.list", "session.get_by_user"])
def test_a_page_of_sessions_ends_early(fleet: RunningFleet, name: str) -> None:
    """Q-02, Q-03, Q-04: with a cursor, and the pages together have each session once; one item always fits."""
    user_id = str(uuid4())
    ids = crowd(fleet, user_id=user_id)
    seen: list[str] = []
    pages, cursor = 0, None
    while pages == 0 or cursor is not None:
        page = fleet.call(name, user_id=user_id, limit=1000, cursor=cursor)
        assert page["items"]
        assert size(page["items"]) < 17 * MIB
        seen += [one["id"] for one in page["items"]]
        pages, cursor = pages + 1, page["next_cursor"]
    assert seen == ids
    assert pages == 2
    assert [one["id"] for one in fleet.client.iterate(name, user_id=user_id, limit=1000)] == ids


def test_a_page_of_live_sessions_ends_early(fleet: RunningFleet) -> None:
    """Q-04."""
    crowd(fleet)
    page = fleet.call("session.list_active", limit=1000)
    assert page["next_cursor"] is not None
    assert size(page["items"]) < 17 * MIB


@pytest.mark.parametrize("cached", [True, False], ids=["from the cache", "from PostgreSQL"])
def test_what_does_not_fit_is_left(fleet: RunningFleet, cached: bool) -> None:
    """Q-01: those that are left are named; whoever asks for them gets the rest."""
    ids = crowd(fleet)
    if not cached:
        fleet.cache.delete(*(f"sess:doc:{id_}" for id_ in ids))
    left, seen, asked = [*ids[:20], "nobody", *ids[20:]], [], 0
    missing: list[str] = []
    while left:
        answer = fleet.call("session.get_many", session_ids=left)
        assert answer["items"]
        assert size(answer["items"]) < 17 * MIB
        seen += [one["id"] for one in answer["items"]]
        missing += answer["missing"]
        left, asked = answer["left"], asked + 1
    assert sorted(seen) == sorted(ids)
    assert missing == ["nobody"]
    assert asked == 2


def test_large_answers_go_beside_the_channel(fleet: RunningFleet) -> None:
    """R-11: of a client to which more than 32 MB are on their way Redis closes the channel."""
    user_id = str(uuid4())
    ids = crowd(fleet, user_id=user_id)
    calls = [("session.touch", {"session_id": id_}) for id_ in ids]
    calls += [("session.get_by_user", {"user_id": user_id, "limit": 1000})] * 4
    with redis.Redis.from_url(fleet.settings.result_url) as server, server.pubsub() as ears:
        ears.psubscribe(f"{REPLIES}*")
        assert ears.get_message(timeout=5)["type"] == "psubscribe"
        found = together(fleet, calls)
        heard = [len(message["data"]) for message in iter(lambda: ears.get_message(timeout=0.5), None)]
    assert [one["id"] for one in found[:MANY]] == ids
    assert all([one["id"] for one in page["items"]] == ids[: len(page["items"])] for page in found[MANY:])
    assert sum(map(size, found)) > 60 * MIB
    assert max(heard) < 4.1 * MIB
    assert sum(heard) < 32 * MIB


def test_a_large_answer_is_fetched_at_once(fleet: RunningFleet) -> None:
    """R-11: and not by the next look for lost ones."""
    ids = [new(fleet, context=LARGE)["id"] for _ in range(6)]
    began = time.monotonic()
    for _ in range(8):
        assert [one["id"] for one in fleet.call("session.get_many", session_ids=ids)["items"]] == ids
    assert time.monotonic() - began < 6 * CHECK_SECONDS


def log(fleet: RunningFleet) -> str:
    """A session with MANY large events; its id."""
    session_id: str = new(fleet)["id"]
    calls = [
        ("session.emit_event", {"session_id": session_id, "type": "large", "payload": MIXED[n % 3]})
        for n in range(MANY)
    ]
    answers(fleet, calls)
    return session_id


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_a_page_of_events_ends_early(fleet: RunningFleet, order: str) -> None:
    """D-13: in either direction, with the cursor to go on from."""
    session_id = log(fleet)
    seen: list[int] = []
    pages, cursor = 0, None
    place = "after_seq" if order == "asc" else "before_seq"
    while pages == 0 or cursor is not None:
        more = {} if cursor is None else {place: cursor}
        page = fleet.call("session.get_events", session_id=session_id, limit=1000, order=order, **more)
        assert size(page["items"]) < 17 * MIB
        seen += [one["seq"] for one in page["items"]]
        pages, cursor = pages + 1, page["next_cursor"]
    assert seen == sorted(range(1, MANY + 3), reverse=order == "desc")[: len(seen)]
    assert len(seen) == fleet.call("session.get", session_id=session_id)["last_seq"]
    assert pages == 2


def test_the_last_events_beside_a_session_end_early(fleet: RunningFleet) -> None:
    """Q-01: the last ones, without a gap; one subscriber may be cut off for what all 50 would have."""
    session_id = log(fleet)
    document = fleet.call("session.get", session_id=session_id, include=["events"])
    assert 15 * MIB < size(document["events"]) < 17 * MIB
    seqs = [event["seq"] for event in document["events"]]
    assert seqs == list(range(seqs[0], document["last_seq"] + 1))
    page = fleet.call("session.get_events", session_id=session_id, limit=50, order="desc")
    assert page["items"][::-1] == document["events"]
    assert page["next_cursor"] == seqs[0]


def test_what_was_missed_comes_in_pages(fleet: RunningFleet) -> None:
    """D-15: attach hands out the first; a subscriber gets all, from PostgreSQL where the Stream is gone."""
    session_id = log(fleet)
    attached = fleet.call("session.attach", session_id=session_id, after_seq=0, limit=1000)
    assert size(attached["items"]) < 17 * MIB
    assert attached["next_cursor"] == attached["items"][-1]["seq"] < attached["cursor"]
    fleet.call("session.complete", session_id=session_id)
    fleet.cache.delete(f"stream:session:{session_id}")
    events = [event.seq for event in fleet.client.subscribe(session_id, after_seq=0, marks=False, timeout=30)]
    assert events == list(range(1, attached["cursor"] + 2))


def test_a_page_of_the_log_ends_early(fleet: RunningFleet) -> None:
    """D-14."""
    session_id = log(fleet)
    last = fleet.call("session.get", session_id=session_id)["last_seq"]
    seen: list[int] = []
    pages, cursor = 0, None
    while len(seen) < last:
        page = fleet.call("event.replay", session_ids=[session_id], cursor=cursor)
        assert size(page["items"]) < 17 * MIB
        seen += [one["seq"] for one in page["items"]]
        pages, cursor = pages + 1, page["cursor"]
    assert seen == list(range(1, last + 1))
    assert pages == 2


def test_a_consumer_takes_what_one_answer_carries(fleet: RunningFleet) -> None:
    """D-11: the rest stays in the group for whoever asks next; each event comes once."""
    session_id = log(fleet)
    last = fleet.call("session.get", session_id=session_id)["last_seq"]
    seen: list[int] = []
    ack: list[str] = []

    def takes() -> bool:
        answer = fleet.call("event.consume", group="git_monitors", consumer="c", limit=100, ack=ack)
        assert answer["acknowledged"] == len(ack)
        assert size(answer["items"]) < 17 * MIB
        ack[:] = [item["stream_id"] for item in answer["items"]]
        seen.extend(item["event"]["seq"] for item in answer["items"] if item["event"]["session_id"] == session_id)
        return len(seen) >= last

    eventually(takes, 60)
    assert seen == list(range(1, last + 1))


def test_stored_answers_that_do_not_fit_are_left(fleet: RunningFleet) -> None:
    """B-13: their keys are named; whoever asks for those gets the rest."""
    keys = [str(uuid4()) for _ in range(MANY)]
    calls = [("session.create", {"context": MIXED[n % 3], "idempotency_key": key}) for n, key in enumerate(keys)]
    made = answers(fleet, calls)
    left, found, asked = [*keys, "never used"], {}, 0
    while left:
        answer = fleet.call("session.answers", keys=left)
        assert answer["items"]
        assert size(answer["items"]) < 17 * MIB
        found |= {item["idempotency_key"]: item["answer"]["id"] for item in answer["items"]}
        left, asked = answer["left"], asked + 1
    assert found == {key: one["id"] for key, one in zip(keys, made, strict=True)}
    assert asked == 2


def test_answers_of_a_batch_that_do_not_fit_are_refused(fleet: RunningFleet) -> None:
    """B-08, of `session.apply`: a few bytes may answer a megabyte; what is refused leaves room for the others."""
    ids = [new(fleet, context=LARGE)["id"] for _ in range(3)]
    counts = dict(zip(ids, (90, 45, 30), strict=True))
    operations = [
        {"name": "session.update", "arguments": {"session_id": session_id, "metadata": {"n": n}}}
        for session_id, count in counts.items()
        for n in range(count)
    ]
    batch = {"operations": operations, "idempotency_key": str(uuid4())}
    answer = fleet.call("session.apply", timeout=60, **batch)
    assert (answer["applied"], answer["failed"]) == (120, 45)
    again = fleet.call("session.apply", timeout=60, **batch)
    assert [item["ok"] for item in again["items"]] == [item["ok"] for item in answer["items"]]
    assert all(item["answer"]["replayed"] for item in again["items"] if item["ok"])
    errors = [item["error"] for item in answer["items"][90:135]]
    [error] = [error for error in errors if error["code"] != "NOT_APPLIED"]
    assert (error["code"], error["details"]["limit"]) == ("PAYLOAD_TOO_LARGE", 128 * MIB)
    assert 128 * MIB < error["details"]["size"] < 130 * MIB
    last = [fleet.call("session.get", session_id=session_id)["metadata"].get("n") for session_id in ids]
    assert last == [89, None, 29]


def test_a_read_of_a_large_buffer_ends_early() -> None:
    """C-02, C-03: a buffer of 40 MB comes in pieces of about 12, as the answer has the content twice."""
    with private_fleets() as make:
        fleet = make(sessions=1, relay=0, FLEET_OUTPUT_MAX_BYTES=str(64 * MIB))
        session_id = new(fleet)["id"]
        for _ in range(4):
            fleet.call("session.append_output", session_id=session_id, content="x" * 10 * MIB)
        fleet.call("session.complete", session_id=session_id)
        seen, lengths, page = 0, [], {"next_chunk": 0, "eof": False}
        while not page["eof"]:
            page = fleet.call(
                "session.read_output", session_id=session_id, after_chunk=page["next_chunk"], limit=10_000
            )
            assert [chunk["chunk_no"] for chunk in page["chunks"]] == list(range(seen + 1, page["next_chunk"] + 1))
            assert page["truncated_before"] == 0
            seen = page["next_chunk"]
            lengths.append(page["output_length"])
        assert sum(lengths) == 40 * MIB
        assert lengths == [12 * MIB, 12 * MIB, 12 * MIB, 4 * MIB]


def test_reasons_of_a_history_are_bounded_too(fleet: RunningFleet) -> None:
    """A-20: 600 moves with reasons of 65,536 characters."""
    session_id = new(fleet)["id"]
    reason = "ü" * 65_536
    moves = ["session.pause", "session.resume"] * 150
    for start in range(0, len(moves), 50):
        operations = [
            {"name": name, "arguments": {"session_id": session_id, "reason": reason, "expected_version": None}}
            for name in moves[start : start + 50]
        ]
        assert fleet.call("session.apply", operations=operations)["failed"] == 0
    found = list(fleet.client.iterate("session.history", session_id=session_id, limit=1000))
    assert len(found) == 301
    page = fleet.call("session.history", session_id=session_id, limit=1000)
    assert size(page["items"]) < 17 * MIB
    assert page["next_cursor"] == page["items"][-1]["seq"]
