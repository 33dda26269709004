"""Consumer groups step by step, in this process: give out, claim, give up, give once more (rows D-11, D-12, D-18)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from fanout.connection import PATIENT, connect
from fanout.groups import Groups
from fanout.keys import Keys
from fanout.publish import Publisher
from sessionfleet.errors import Unavailable, ValidationFailed
from sessionfleet.words import CONSUMER_GROUPS
from sessions import leadership, outbox
from sessions.outbox import Leader
from tasks.outbox_drain import Drain
from tests.support.consuming import age_pending, groups_of, pending
from tests.support.outbox import LocalWorker, horizon_passes, streamed
from tests.support.running import RunningFleet

GROUP = "session_handlers"
Items = list[dict[str, Any]]


@pytest.fixture
def publisher(fanout_fleet: RunningFleet) -> Iterator[Publisher]:
    client = connect(fanout_fleet.settings.cache_url, name="test", timeout=PATIENT)
    yield Publisher(client, Keys())
    client.close()


@pytest.fixture
def relay(fanout_fleet: RunningFleet, publisher: Publisher) -> Iterator[Callable[..., None]]:
    """Publishes what waits, as a relay that begins to lead or, with ``True``, has led for a while."""
    with fanout_fleet.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as db:
        db.execute(text("UPDATE leader_leases SET expires_at = '-infinity'"))
        epoch = leadership.take(db, outbox.NAME, "test", 600)
        assert epoch is not None
        drain = Drain(db, publisher, Leader("test", epoch))

        def publish(leads: bool = False) -> None:
            if not leads:
                drain.begin()
            horizon_passes(fanout_fleet)
            while drain.step().more:
                pass

        yield publish


def consume(worker: LocalWorker, consumer: str = "c1", group: str = GROUP, **arguments: Any) -> dict[str, Any]:
    answer: dict[str, Any] = worker.call("event.consume", group=group, consumer=consumer, **arguments)
    return answer


def ids(items: Items) -> list[str]:
    return [item["stream_id"] for item in items]


def seqs(items: Items) -> list[int]:
    return [item["event"]["seq"] for item in items]


def letters(worker: LocalWorker, **arguments: Any) -> Items:
    found: Items = worker.call("event.dead_letters", **arguments)["items"]
    return found


def test_the_groups_exist_from_the_start_and_again_after_a_flush(
    worker: LocalWorker, relay: Callable[..., None], publisher: Publisher, fanout_fleet: RunningFleet
) -> None:
    """AT-D6, first part: before any event; after a FLUSHALL they miss nothing of what was published meanwhile."""
    relay()
    assert groups_of(fanout_fleet) == set(CONSUMER_GROUPS)
    fanout_fleet.cache.flushall()
    session_id = worker.create()
    relay()
    assert groups_of(fanout_fleet) == set(CONSUMER_GROUPS)
    for group in CONSUMER_GROUPS:
        [item] = consume(worker, group=group)["items"]
        assert (item["event"]["session_id"], item["deliveries"]) == (session_id, 1)


def test_each_event_is_with_one_consumer_until_it_is_acknowledged(
    worker: LocalWorker, relay: Callable[..., None], fanout_fleet: RunningFleet
) -> None:
    session_id = worker.create()
    for number in range(9):
        worker.emit(session_id, number=number)
    relay()
    first, second = consume(worker, "c1", limit=6)["items"], consume(worker, "c2", limit=6)["items"]
    assert (seqs(first), seqs(second)) == ([1, 2, 3, 4, 5, 6], [7, 8, 9, 10])
    assert [item["event"]["event_id"] for item in first + second] == [
        one["event_id"] for one in streamed(fanout_fleet)
    ]
    answer = consume(worker, "c1", limit=0, ack=ids(first))
    assert answer == {"items": [], "acknowledged": 6, "returned": [], "dead_letters": 0}
    assert consume(worker, "c1", ack=ids(first))["acknowledged"] == 0
    assert {one["consumer"] for one in pending(fanout_fleet, GROUP)} == {"c2"}
    assert len(pending(fanout_fleet, GROUP)) == 4


def test_only_who_holds_an_entry_can_put_it_back(
    worker: LocalWorker, relay: Callable[..., None], publisher: Publisher, fanout_fleet: RunningFleet
) -> None:
    """A consumer that lost it after it was asked whether it holds it takes it from nobody."""
    worker.create()
    relay()
    [entry] = ids(consume(worker, "c1")["items"])
    groups = Groups(publisher.client, publisher.keys)
    assert not groups.put_back(GROUP, "c2", entry, 0)
    assert [one["consumer"] for one in pending(fanout_fleet, GROUP)] == ["c1"]
    assert consume(worker, "c2")["items"] == []
    assert groups.put_back(GROUP, "c1", entry, 0)
    assert ids(consume(worker, "c2")["items"]) == [entry]


def test_what_a_dead_consumer_held_goes_to_another(
    worker: LocalWorker, relay: Callable[..., None], fanout_fleet: RunningFleet
) -> None:
    """AT-D6, second part: after 30 seconds, not before."""
    worker.create()
    relay()
    taken = consume(worker, "dead")["items"]
    age_pending(fanout_fleet, GROUP, 25)
    assert consume(worker, "alive")["items"] == []
    age_pending(fanout_fleet, GROUP, 30)
    [again] = consume(worker, "alive")["items"]
    assert (again["stream_id"], again["deliveries"]) == (taken[0]["stream_id"], 2)
    assert consume(worker, "third")["items"] == []
    # The first one comes back: what it says of an event that is not its own any more changes nothing.
    answer = consume(worker, "dead", limit=0, fail=[{"stream_id": again["stream_id"], "reason": "late"}])
    assert (answer["returned"], answer["dead_letters"]) == ([], 0)
    assert consume(worker, "alive", limit=0, ack=[again["stream_id"]])["acknowledged"] == 1


def fail(worker: LocalWorker, item: dict[str, Any], reason: str, consumer: str = "c1") -> dict[str, Any]:
    return consume(worker, consumer, limit=0, fail=[{"stream_id": item["stream_id"], "reason": reason}])


def failed_three_times(worker: LocalWorker, fleet: RunningFleet, stream: str = "stream:events") -> dict[str, Any]:
    """The first event that comes fails until it is given up, the others are acknowledged; it."""
    for attempt in (1, 2, 3):
        item, *others = consume(worker)["items"]
        consume(worker, limit=0, ack=ids(others))
        assert item["deliveries"] == attempt
        answer = fail(worker, item, f"boom {attempt}")
        assert (answer["returned"], answer["dead_letters"]) == (([], 1) if attempt == 3 else ([item["stream_id"]], 0))
        age_pending(fleet, GROUP, 30, stream)
    return item


def test_an_event_that_fails_three_times_is_a_dead_letter(
    worker: LocalWorker, relay: Callable[..., None], fanout_fleet: RunningFleet
) -> None:
    """AT-D5: with its reason; the consumer goes on; requeue gives it once more, to its group alone."""
    session_id = worker.create()
    worker.emit(session_id)
    relay()
    item = failed_three_times(worker, fanout_fleet)
    assert pending(fanout_fleet, GROUP) == []
    [letter] = letters(worker, group=GROUP)
    assert (letter["failure_reason"], letter["deliveries"]) == ("boom 3", 3)
    assert (letter["original_subject"], letter["stream_id"]) == ("stream:events", item["stream_id"])
    assert letter["envelope"] == item["event"]
    assert letter["event_id"] == item["event"]["event_id"]

    before = streamed(fanout_fleet)
    assert worker.call("event.requeue", ids=[letter["id"], 10**12])["requeued"] == [letter["id"]]
    assert worker.call("event.requeue", ids=[letter["id"]]) == {"requeued": [], "skipped": [letter["id"]]}
    [again] = consume(worker, "c2")["items"]
    assert again["event"] == item["event"]
    assert again["stream_id"].startswith("retry/")
    assert again["deliveries"] == 1
    assert consume(worker, "c2", ack=[again["stream_id"]])["acknowledged"] == 1
    assert fanout_fleet.cache.xlen(f"stream:retry:{GROUP}") == 0
    assert streamed(fanout_fleet) == before
    assert [seqs(consume(worker, "x", group)["items"]) for group in CONSUMER_GROUPS[1:]] == [[1, 2]] * 3
    assert worker.call("session.get_events", session_id=session_id)["last_seq"] == 2
    assert letters(worker) == []
    assert [one["id"] for one in letters(worker, requeued=True)] == [letter["id"]]


def test_a_requeued_event_may_fail_again(
    worker: LocalWorker, relay: Callable[..., None], fanout_fleet: RunningFleet
) -> None:
    worker.create()
    relay()
    failed_three_times(worker, fanout_fleet)
    [letter] = letters(worker)
    worker.call("event.requeue", ids=[letter["id"]])
    failed_three_times(worker, fanout_fleet, f"stream:retry:{GROUP}")
    [second] = letters(worker)
    assert second["id"] > letter["id"]
    assert second["original_subject"] == f"stream:retry:{GROUP}"
    assert worker.call("event.discard", ids=[second["id"], letter["id"], 10**12]) == {"discarded": 2}
    assert letters(worker, requeued=True) == []


def test_an_event_nobody_ever_acknowledges_is_given_up(
    worker: LocalWorker, relay: Callable[..., None], fanout_fleet: RunningFleet
) -> None:
    """Its consumers die of it, one after the other."""
    session_id = worker.create()
    relay()
    for number in (1, 2, 3):
        [item] = consume(worker, f"dies-{number}")["items"]
        assert item["deliveries"] == number
        age_pending(fanout_fleet, GROUP, 30)
    answer = consume(worker, "lives")
    assert (answer["items"], answer["dead_letters"]) == ([], 1)
    [letter] = letters(worker, session_id=session_id)
    assert (letter["failure_reason"], letter["deliveries"]) == ("not acknowledged in 3 deliveries", 3)
    assert pending(fanout_fleet, GROUP) == []


def test_a_letter_is_kept_once_whatever_happens_after_it(
    worker: LocalWorker, relay: Callable[..., None], fanout_fleet: RunningFleet
) -> None:
    """A worker that dies between keeping the letter and ending the entry."""
    worker.create()
    relay()
    item = failed_three_times(worker, fanout_fleet)
    fanout_fleet.cache.xgroup_setid("stream:events", GROUP, "0")
    for _ in range(3):
        consume(worker, "c1")
        age_pending(fanout_fleet, GROUP, 30)
    assert consume(worker, "c1")["dead_letters"] == 1
    assert [one["stream_id"] for one in letters(worker)] == [item["stream_id"]]


def test_a_malformed_entry_is_a_dead_letter_and_the_next_is_handled(
    worker: LocalWorker, relay: Callable[..., None], fanout_fleet: RunningFleet
) -> None:
    """AT-D9, second part [D-18]: anybody can write to a Stream."""
    unstorable = {"event_name": "x", "session_id": "s", "seq": 1, "event_id": str(uuid4()), "payload": {"a": "\0"}}
    odd: list[dict[Any, Any]] = [
        {"envelope": "{"},
        {"nothing": "here"},
        {"envelope": json.dumps(unstorable)},
        {b"\xff\x00": b"\xfe\x00"},
        {"envelope": "[]"},
        {"envelope": '"x"'},
        {"envelope": "null"},
        {"envelope": "[" * 100_000},
        {"envelope": '{"event_name": "x", "session_id": "s", "seq": Infinity}'},
    ]
    worker.create()
    relay()
    [first] = consume(worker)["items"]
    consume(worker, limit=0, ack=[first["stream_id"]])
    xid, _, number = first["stream_id"].partition("-")
    for place, fields in enumerate(odd[:3], start=int(number) + 1000):
        fanout_fleet.cache.xadd("stream:events", fields, id=f"{xid}-{place}")
    for fields in odd[3:]:
        fanout_fleet.cache.xadd(f"stream:retry:{GROUP}", fields)
    session_id = worker.create()
    relay(True)
    answer = consume(worker, limit=20)
    assert [item["event"]["session_id"] for item in answer["items"]] == ["s", session_id]
    assert answer["dead_letters"] == 8
    found = letters(worker)
    assert {letter["failure_reason"] for letter in found} == {"malformed: the entry holds no event"}
    assert {"envelope": "{"} in [letter["envelope"]["fields"] for letter in found]
    assert {"\\xff\\0": "\\xfe\\0"} in [letter["envelope"]["fields"] for letter in found]
    numbers = [letter["id"] for letter in found]
    assert worker.call("event.requeue", ids=numbers) == {"requeued": [], "skipped": sorted(numbers)}
    first, second = answer["items"]
    consume(worker, limit=0, ack=[second["stream_id"]])
    for _ in range(2):
        fail(worker, first, "whose?")
        age_pending(fanout_fleet, GROUP, 30)
        [first] = consume(worker)["items"]
    assert fail(worker, first, "whose?")["dead_letters"] == 1
    [letter] = [one for one in letters(worker) if one["failure_reason"] == "whose?"]
    assert letter["event_id"] is None


def test_a_consumer_holds_100_at_most(
    worker: LocalWorker, relay: Callable[..., None], fanout_fleet: RunningFleet
) -> None:
    session_id = worker.create()
    for _ in range(120):
        worker.emit(session_id)
    relay()
    held = [item for _ in range(4) for item in consume(worker, limit=40)["items"]]
    assert seqs(held) == list(range(1, 101))
    assert consume(worker, limit=40)["items"] == []
    answer = consume(worker, limit=40, ack=ids(held[:5]))
    assert seqs(answer["items"]) == [101, 102, 103, 104, 105]
    assert seqs(consume(worker, "c2", limit=40)["items"]) == list(range(106, 122))
    # What others left behind waits too, until there is room.
    age_pending(fanout_fleet, GROUP, 30)
    claimed = consume(worker, "c2", limit=100)["items"]
    assert len(claimed) == 100 - 16
    own = consume(worker, "c2", limit=100)["items"]
    assert seqs(own) == list(range(106, 122))
    assert {item["deliveries"] for item in claimed + own} == {2}


def test_idle_consumers_that_hold_nothing_are_removed(
    worker: LocalWorker, relay: Callable[..., None], publisher: Publisher, fanout_fleet: RunningFleet
) -> None:
    worker.create()
    relay()
    consume(worker, "holds")
    consume(worker, "holds nothing")

    def names() -> set[str]:
        found: Any = fanout_fleet.cache.xinfo_consumers("stream:events", GROUP)
        return {one["name"] for one in found}

    groups = Groups(publisher.client, publisher.keys)
    groups.keep()
    assert names() == {"holds", "holds nothing"}
    groups.keep(gone_seconds=-1)
    assert names() == {"holds"}


def test_what_the_stream_has_forgotten_is_let_go(
    worker: LocalWorker, relay: Callable[..., None], fanout_fleet: RunningFleet
) -> None:
    session_id = worker.create()
    relay()
    [item] = consume(worker)["items"]
    fanout_fleet.cache.xtrim("stream:events", maxlen=0, approximate=False)
    assert fail(worker, item, "x") == {"items": [], "acknowledged": 0, "returned": [], "dead_letters": 0}
    assert pending(fanout_fleet, GROUP) == []
    worker.emit(session_id)
    relay()
    consume(worker)
    fanout_fleet.cache.xtrim("stream:events", maxlen=0, approximate=False)
    age_pending(fanout_fleet, GROUP, 30)
    assert consume(worker, "c2")["items"] == []
    assert pending(fanout_fleet, GROUP) == []


def test_a_letter_of_the_relay_goes_to_every_group(
    worker: LocalWorker, relay: Callable[..., None], fanout_fleet: RunningFleet
) -> None:
    """D-12: what Redis refused is given to the groups, not to the Streams it did not fit into."""
    session_id = worker.create()
    fanout_fleet.cache.set(f"stream:session:{session_id}", "no stream")
    for _ in range(3):
        relay()
    [letter] = letters(worker)
    assert (letter["consumer_group"], letter["original_subject"]) == (None, f"session:{session_id}")
    assert worker.call("event.requeue", ids=[letter["id"]])["requeued"] == [letter["id"]]
    for group in CONSUMER_GROUPS:
        [item] = consume(worker, group=group)["items"]
        assert item["event"]["session_id"] == session_id
    assert streamed(fanout_fleet) == []


def test_dead_letters_are_paged(worker: LocalWorker, fanout_fleet: RunningFleet) -> None:
    with fanout_fleet.engine.begin() as db:
        db.execute(
            text("""
                INSERT INTO event_dead_letters (event_id, original_subject, failure_reason, deliveries, envelope)
                SELECT gen_random_uuid(), 'session:x', 'of the test', 3, '{}' FROM generate_series(1, 7)
            """)
        )
    found, cursor = [], None
    for _ in range(3):
        answer = worker.call("event.dead_letters", limit=3, cursor=cursor)
        found += [one["id"] for one in answer["items"]]
        cursor = answer["next_cursor"]
    assert cursor is None
    assert len(found) == 7
    assert found == sorted(found, reverse=True)


def test_a_page_of_large_dead_letters_ends_early(worker: LocalWorker, fanout_fleet: RunningFleet) -> None:
    """D-12: 40 events of a megabyte are three pages of about 16 MiB."""
    with fanout_fleet.engine.begin() as db:
        db.execute(
            text("""
                INSERT INTO event_dead_letters (event_id, original_subject, failure_reason, deliveries, envelope)
                SELECT gen_random_uuid(), 'session:x', 'of the test', 3,
                    jsonb_build_object('payload', repeat('x', 1048000))
                FROM generate_series(1, 40)
            """)
        )
    pages = []
    answer = {"next_cursor": None}
    while not pages or answer["next_cursor"]:
        answer = worker.call("event.dead_letters", limit=100, cursor=answer["next_cursor"])
        pages.append([one["id"] for one in answer["items"]])
    assert [len(page) for page in pages] == [16, 16, 8]
    found = [id_ for page in pages for id_ in page]
    assert found == sorted(set(found), reverse=True)


@pytest.mark.parametrize(
    "arguments",
    [
        {"group": "others"},
        {"limit": 101},
        {"ack": ["1"]},
        {"ack": [f"{2**64}-1"]},
        {"fail": [{"stream_id": "1-1"}]},
    ],
)
def test_what_is_refused(worker: LocalWorker, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValidationFailed):
        worker.call("event.consume", **{"group": GROUP, "consumer": "c", **arguments})


def test_without_redis_it_says_so(worker: LocalWorker, fanout_fleet: RunningFleet) -> None:
    publisher = worker.runtime.extras["publisher"]
    away = connect("redis://127.0.0.1:1/0", name="test", timeout=0.5)
    worker.runtime.extras["publisher"] = Publisher(away, publisher.keys)
    with pytest.raises(Unavailable):
        consume(worker, consumer=str(uuid4()))
